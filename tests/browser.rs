//! The pages in a real browser: scripts run without an error, play, scrub and orbit change what is drawn, nothing is
//! asked of a network. Needs Debian's `chromium` and `chromium-driver`, and the feature `browser-tests`.

mod support;

use crate::support::tiny;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::support::driver::{Browser, Step};

/// A run with its report, and its best policy rendered. Episodes of two seconds, so that there is time to look.
static MADE: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let at = |p: &Path| p.to_str().unwrap().to_owned();
    let length = ["max_epochs=10", "episode_length=120", "early_termination=false"];
    let settings = tiny::settings(&[&length[..], &[&format!("run_dir={}", at(&run))]].concat());
    let done = |program: &str, args: &[String]| {
        let o = Command::new(program).args(args).output().unwrap();
        assert!(o.status.success(), "{}", String::from_utf8_lossy(&o.stderr));
    };
    done(env!("CARGO_BIN_EXE_pwm-train"), &settings);
    let render = ["render".into(), at(&run), "--out".into(), at(&dir.path().join("page.html")), "--episodes=4".into()];
    done(env!("CARGO_BIN_EXE_pwm"), &render);
    done(env!("CARGO_BIN_EXE_pwm"), &["report".into(), at(&run)]);
    dir
});

fn file(name: &str) -> PathBuf {
    MADE.path().join(name)
}

/// Leaves the last picture of a page in `PWM_ARTIFACTS`, to be looked at.
fn keep_picture(b: &Browser, name: &str) {
    if let Some(dir) = std::env::var_os("PWM_ARTIFACTS") {
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(Path::new(&dir).join(name), b.picture()).unwrap();
    }
}

/// What the canvases show, without the controls over them.
fn drawn(b: &Browser) -> Vec<u8> {
    let hide = |how: &str| {
        b.script(&format!(
            "for (const n of ['head', 'read', 'bar']) document.getElementById(n).style.visibility = '{how}'"
        ));
    };
    hide("hidden");
    b.frames();
    let picture = b.picture();
    hide("visible");
    picture
}

/// The same once nothing moves any more: the camera follows softly.
fn at_rest(b: &Browser) -> Vec<u8> {
    let from = Instant::now();
    let mut last = drawn(b);
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let next = drawn(b);
        if next == last {
            return next;
        }
        assert!(from.elapsed() < Duration::from_secs(60), "the picture never comes to rest");
        last = next;
    }
}

/// What is drawn at rest once it is no longer `before`: a slow browser may show an old picture for a while.
fn changed(b: &Browser, before: &[u8], what: &str) -> Vec<u8> {
    b.wait(what, || drawn(b) != before);
    at_rest(b)
}

/// Seconds that the page's clock shows, and those of the whole film.
fn clock(b: &Browser) -> (f64, f64) {
    let text = b.text("#clock");
    let mut numbers = text.split(|c: char| !c.is_ascii_digit() && c != '.').filter_map(|n| n.parse().ok());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

fn nothing_wrong(b: &Browser) {
    assert_eq!(b.errors(), Vec::<String>::new(), "errors of scripts");
    let asked = b.requests();
    assert!(asked.iter().any(|url| url.starts_with("file:")), "the page itself was asked for");
    let local = |url: &&String| ["file:", "data:", "blob:"].iter().any(|scheme| url.starts_with(scheme));
    assert_eq!(asked.iter().find(|url| !local(url)), None, "asked of a network");
}

/// With the shader (WebGL in software), and with the strokes that a browser without WebGL gets.
#[test]
fn the_moving_ant_plays_scrubs_and_turns() {
    for (shader, flag) in [(true, "--enable-unsafe-swiftshader"), (false, "--disable-3d-apis")] {
        let b = Browser::start(&[flag]);
        b.open(&file("page.html"));
        b.wait("the page draws", || b.text("#clock").contains(" / "));
        assert_eq!(b.script("return paint !== null"), shader, "how it draws");
        // Rays without a GPU take time: as few as a slow machine would take.
        b.script("quality = .4");
        assert!(b.text("#head h1").contains("Ant") && b.text("#read").contains("return"));
        let (_, end) = clock(&b);
        assert!(end > 1.5, "{end}");

        // It plays by itself, and the button stops and starts it.
        let (first, then) = (drawn(&b), clock(&b).0);
        b.wait("time goes on", || clock(&b).0 != then);
        b.wait("the ant moves", || drawn(&b) != first);
        b.click("#play");
        // It may have stopped anywhere, and in the middle the next click would change nothing.
        b.script("t = 0; jump = true");
        let rest = at_rest(&b);
        let stopped = clock(&b).0;
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!((clock(&b).0, b.text("#play")), (stopped, "▶".into()));

        // A click in the middle of the slider goes there.
        b.click("#scrub");
        b.wait("it goes to the middle", || (clock(&b).0 - end / 2.0).abs() < 0.1 * end);
        let (middle, time) = (changed(&b, &rest, "another moment is drawn"), clock(&b).0);
        b.key("\u{E014}");
        b.wait("the next frame", || clock(&b).0 > time);
        changed(&b, &middle, "the next frame is drawn");

        // A drag turns the view, the wheel comes nearer; time stands still.
        let before = (at_rest(&b), clock(&b).0);
        b.pointer("#marks", &[Step::Down, Step::Move(120, -40), Step::Up]);
        let turned = changed(&b, &before.0, "the view turns");
        b.wheel("#marks", -400);
        let near = changed(&b, &turned, "the view comes nearer");
        assert_eq!(clock(&b).0, before.1);

        // Arrows for the forces of the ground, on and off.
        assert_eq!(b.script("return push.length > 0"), true, "feet push");
        let touching = "const i = [...Array(F).keys()].findIndex(i => first[i + 1] > first[i]); t = i / FPS; jump = true; return i >= 0";
        assert_eq!(b.script(touching), true, "a frame with a force");
        let plain = changed(&b, &near, "that frame is drawn");
        b.click("#forces");
        let arrows = changed(&b, &plain, "forces are drawn");
        keep_picture(&b, if shader { "page.png" } else { "page_flat.png" });
        b.click("#forces");
        // Not `plain` to the pixel: the camera may still creep.
        b.wait("and not any more", || drawn(&b) != arrows);
        assert_eq!(b.script("return forces"), false);

        // The space bar plays on, to the end and round again.
        b.key(" ");
        let from = clock(&b).0;
        b.wait("it plays to the end and begins again", || clock(&b).0 < from);
        nothing_wrong(&b);
    }
}

#[test]
fn the_report_shows_every_figure_and_asks_for_nothing() {
    let b = Browser::start(&[]);
    b.open(&file("run/report/report.html"));
    let figures = std::fs::read_dir(file("run/report")).unwrap();
    let figures = figures.filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|x| x == "svg")).count();
    let shown =
        "return [...document.images].filter(i => i.complete && i.naturalWidth > 0 && i.clientWidth > 300).length";
    b.wait("all figures are shown", || b.script(shown) == figures);
    assert!(figures > 8);
    let text = b.text("body");
    for piece in ["pwm_small", "PWM, published", "9,559", "max_epochs are done", "No incidents."] {
        assert!(text.contains(piece), "{piece} in\n{text}");
    }
    keep_picture(&b, "report.png");
    nothing_wrong(&b);
}

/// The pictures beside the page are what a browser takes for pictures.
#[test]
fn the_gif_and_the_still_are_pictures() {
    let b = Browser::start(&[]);
    for name in ["page.gif", "page.svg", "run/ant.svg", "run/curve.svg"] {
        b.open(&file(name));
        let size = match name.ends_with("gif") {
            true => "return document.images[0].naturalWidth > 100",
            false => "return document.documentElement.getBBox().width > 100",
        };
        b.wait(name, || b.script(size) == true);
    }
    nothing_wrong(&b);
}
