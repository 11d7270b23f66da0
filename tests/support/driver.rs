//! A browser driven from outside, as a user would: a small client of the WebDriver protocol, spoken by `chromedriver`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// What a pointer does one after another.
pub enum Step {
    Down,
    /// By so many pixels.
    Move(i32, i32),
    Up,
}

/// A headless browser with one page; it ends with the value.
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    profile: tempfile::TempDir,
}

/// The name that the protocol gives references to elements.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

impl Browser {
    pub fn start(flags: &[&str]) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let driver = Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut driver = driver.expect("chromedriver: install Debian's packages chromium and chromium-driver");
        // "ChromeDriver was started successfully on port 1234."
        let told = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port =
            told.filter_map(|l| l.split("successfully on port ").nth(1)?.trim_end_matches('.').parse().ok()).next();
        let mut b = Self { driver, port: port.expect("a port"), session: String::new(), profile };
        let folder = format!("--user-data-dir={}", b.profile.path().display());
        let usual = [
            "--headless",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            // A slow machine is no reason to give up on its drawing.
            "--disable-gpu-watchdog",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=760,400",
            &folder,
        ];
        let args = [&usual[..], flags].concat();
        let options = json!({ "args": args });
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        } } });
        let made = b.send("POST", "/session", &wanted);
        b.session = made["sessionId"].as_str().unwrap().to_owned();
        // The browser's own first page has requests of its own.
        b.post("url", json!({ "url": "about:blank" }));
        b.requests();
        b
    }

    /// One command; the driver's answer, which must not be an error.
    fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        let value = self.ask(method, path, body).unwrap_or_else(|e| panic!("{method} {path}: {e}"));
        assert!(value.get("error").is_none(), "{method} {path}: {value}");
        value
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> io::Result<Value> {
        let body = if method == "GET" { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        let mut reader = BufReader::new(stream);
        let (mut line, mut length) = (String::new(), 0);
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(n) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = n.trim().parse().map_err(io::Error::other)?;
            }
        }
        let mut answer = vec![0; length];
        reader.read_exact(&mut answer)?;
        let answer: Value = serde_json::from_slice(&answer)?;
        Ok(answer["value"].clone())
    }

    fn post(&self, what: &str, body: Value) -> Value {
        self.send("POST", &format!("/session/{}/{what}", self.session), &body)
    }

    fn get(&self, what: &str) -> Value {
        self.send("GET", &format!("/session/{}/{what}", self.session), &Value::Null)
    }

    fn element(&self, selector: &str) -> Value {
        self.post("element", json!({ "using": "css selector", "value": selector }))
    }

    /// Opens a file from disk.
    pub fn open(&self, file: &Path) {
        self.post("url", json!({ "url": format!("file://{}", file.display()) }));
    }

    /// What a script in the page returns.
    pub fn script(&self, text: &str) -> Value {
        self.post("execute/sync", json!({ "script": text, "args": [] }))
    }

    /// Lets the page draw what it has to: two of its frames.
    pub fn frames(&self) {
        let text = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))";
        self.post("execute/async", json!({ "script": text, "args": [] }));
    }

    /// Clicks into the middle of an element.
    pub fn click(&self, selector: &str) {
        let e = self.element(selector);
        self.post(&format!("element/{}/click", e[ELEMENT].as_str().unwrap()), json!({}));
    }

    /// The text of an element as it is shown.
    pub fn text(&self, selector: &str) -> String {
        let e = self.element(selector);
        let text = self.get(&format!("element/{}/text", e[ELEMENT].as_str().unwrap()));
        text.as_str().unwrap().to_owned()
    }

    /// Presses a key.
    pub fn key(&self, key: &str) {
        let actions = [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })];
        self.post("actions", json!({ "actions": [{ "type": "key", "id": "keys", "actions": actions }] }));
    }

    /// Moves a mouse to the middle of an element, and on.
    pub fn pointer(&self, selector: &str, steps: &[Step]) {
        let there = json!({ "type": "pointerMove", "duration": 0, "origin": self.element(selector), "x": 0, "y": 0 });
        let step = |s: &Step| match s {
            Step::Down => json!({ "type": "pointerDown", "button": 0 }),
            Step::Move(x, y) => json!({ "type": "pointerMove", "duration": 100, "origin": "pointer", "x": x, "y": y }),
            Step::Up => json!({ "type": "pointerUp", "button": 0 }),
        };
        let actions: Vec<Value> = std::iter::once(there).chain(steps.iter().map(step)).collect();
        let mouse =
            json!({ "type": "pointer", "id": "mouse", "parameters": { "pointerType": "mouse" }, "actions": actions });
        self.post("actions", json!({ "actions": [mouse] }));
    }

    /// Turns the wheel over an element.
    pub fn wheel(&self, selector: &str, by: i32) {
        let origin = self.element(selector);
        let turn =
            json!({ "type": "scroll", "duration": 0, "origin": origin, "x": 0, "y": 0, "deltaX": 0, "deltaY": by });
        self.post("actions", json!({ "actions": [{ "type": "wheel", "id": "wheel", "actions": [turn] }] }));
    }

    /// What is on the screen, as PNG.
    pub fn picture(&self) -> Vec<u8> {
        const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let text = self.get("screenshot");
        let digits: Vec<u32> = text.as_str().unwrap().chars().map_while(|c| Some(DIGITS.find(c)? as u32)).collect();
        let bytes = digits.chunks(4).flat_map(|four| {
            let all = (0..4).fold(0, |n, i| n << 6 | four.get(i).copied().unwrap_or(0));
            all.to_be_bytes().into_iter().skip(1).take(four.len() - 1)
        });
        bytes.collect()
    }

    /// Waits until something is so.
    pub fn wait(&self, what: &str, is_so: impl Fn() -> bool) {
        let from = Instant::now();
        while !is_so() {
            assert!(from.elapsed() < Duration::from_secs(60), "it does not come: {what}; {:?}", self.errors());
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    fn log(&self, kind: &str) -> Vec<Value> {
        self.post("se/log", json!({ "type": kind })).as_array().unwrap().clone()
    }

    /// Errors since the last time: of scripts, and of what could not be loaded.
    pub fn errors(&self) -> Vec<String> {
        let bad = |l: &&Value| l["level"] == "SEVERE";
        self.log("browser").iter().filter(bad).map(|l| l["message"].to_string()).collect()
    }

    /// Addresses that the page asked for since the last time.
    pub fn requests(&self) -> Vec<String> {
        let url = |l: &Value| {
            let m: Value = serde_json::from_str(l["message"].as_str()?).ok()?;
            let m = &m["message"];
            (m["method"] == "Network.requestWillBeSent")
                .then(|| m["params"]["request"]["url"].as_str().map(String::from))?
        };
        self.log("performance").iter().filter_map(url).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser; killed first, it would leave it behind. One that hangs is ended by its number,
        // which its lock tells (`HOST-1234`).
        let _ = self.ask("DELETE", &format!("/session/{}", self.session), &Value::Null);
        if let Ok(lock) = std::fs::read_link(self.profile.path().join("SingletonLock")) {
            let number = lock.to_string_lossy().rsplit('-').next().map(String::from);
            let _ = Command::new("kill").arg("-KILL").args(number).status();
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
