//! Readers of files on bytes that nobody wrote: no panic, and no more memory than the bytes are worth.
//!
//! What is held is counted by the allocator of this program. `PROPTEST_CASES=1000000` (scripts/full) tries for longer;
//! files of `torch.save` have theirs in `import.rs`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use crate::support::golden::Golden;
use crate::support::mjcf::{BEAST, LEG};
use proptest::prelude::*;
use pwm::config::{Config, KEYS, SHIPPED, ShippedKind, load};
use pwm::io::checkpoint::{self, Checkpoint, Tensor};
use pwm::io::crc64::Crc64;
use pwm::io::metrics::read_metrics;
use pwm::io::source::ByteSource;
use pwm::sim::mjcf::Mjcf;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

/// Counts the bytes that each thread holds, and the most it ever held.
struct Counting;

fn count(more: isize) {
    HELD.with(|h| {
        h.set(h.get() + more);
        MOST.with(|m| m.set(m.get().max(h.get())));
    });
}

// SAFETY: every call goes to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(p, layout) }
    }

    unsafe fn realloc(&self, p: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(p, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The most that `read` held at once, bytes.
fn most(read: impl FnOnce()) -> usize {
    HELD.with(|h| h.set(0));
    MOST.with(|m| m.set(0));
    read();
    MOST.with(Cell::get) as usize
}

/// What reading `len` bytes may hold at once: trees of small pieces are many times the text they come from.
fn worth(len: usize) -> usize {
    (64 << 10) + 100 * len
}

/// What reading settings of `len` bytes may hold: they name a shipped file of each kind, which is read too.
fn worth_settings(len: usize) -> usize {
    let longest = |kind| SHIPPED.iter().filter(|s| s.kind == kind).map(|s| s.text.len()).max().unwrap();
    worth(len + longest(ShippedKind::Env) + longest(ShippedKind::Alg))
}

/// Some bytes of `good` changed, and some cut off.
fn damaged(good: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6);
    (edits, prop::option::of(any::<prop::sample::Index>())).prop_map(move |(edits, cut)| {
        let mut bytes = good.to_vec();
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes
    })
}

/// A small checkpoint.
static SAMPLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.safetensors");
    let w = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0];
    let meta = BTreeMap::from([("epoch".to_string(), "3".to_string())]);
    checkpoint::save(&path, [Tensor::of("w", &[2, 3], &w), Tensor::of("n", &[], &[7u32])], &meta).unwrap();
    std::fs::read(path).unwrap()
});

/// A small file of numbers to compare with, of every type that one may hold.
static NUMBERS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    use safetensors::{Dtype::*, tensor::TensorView};
    let bytes: Vec<u8> = (0..48).collect();
    let of = |dtype, shape: &[usize], len| TensorView::new(dtype, shape.to_vec(), &bytes[..len]).unwrap();
    let arrays = [
        ("a", of(F32, &[2, 3], 24)),
        ("a.f64", of(F64, &[2, 3], 48)),
        ("done", of(BOOL, &[3], 3)),
        ("flags", of(U8, &[2], 2)),
        ("index", of(I32, &[4], 16)),
        ("long", of(I64, &[1], 8)),
    ];
    let meta = [("tau".to_string(), "0.5".to_string())];
    safetensors::serialize(arrays, Some(meta.into())).unwrap()
});

/// Makes the checksum right again, of the header or (as in version 1) of the whole file, so that what stands behind it
/// is reached.
fn sign(bytes: &mut [u8], whole: bool) {
    let at = bytes.windows(12).position(|w| w == b"pwm_checksum").map(|i| i + 15);
    let Some(digits) = at.filter(|a| a + 16 <= bytes.len()) else { return };
    bytes[digits..digits + 16].fill(b'0');
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()).saturating_add(8);
    let end = if whole { bytes.len() } else { bytes.len().min(header as usize) };
    let mut crc = Crc64::new();
    crc.update(&bytes[..end]);
    bytes[digits..digits + 16].copy_from_slice(format!("{:016x}", crc.finish()).as_bytes());
}

/// A line that is nearly right: real keys with values of every sort.
fn near_line() -> impl Strategy<Value = String> {
    let key = (0..KEYS.len()).prop_map(|i| KEYS[i].name.to_owned());
    let value = prop_oneof![
        any::<i64>().prop_map(|i| i.to_string()),
        any::<f64>().prop_map(|x| format!("{x:e}")),
        any::<Vec<u64>>().prop_map(|list| format!("{list:?}")),
        "[a-z_]{0,8}",
        "\\PC{0,12}",
        (0..KEYS.len()).prop_map(|i| KEYS[i].default_text()),
    ];
    (key, prop_oneof![Just(": "), Just(":"), Just("= ")], value)
        .prop_map(|(key, sep, value)| format!("{key}{sep}{value}"))
}

/// A file in which a word, a number or an element of a right one is another: what a reader of text meets.
fn near_robot() -> impl Strategy<Value = String> {
    let words: Vec<&'static str> = [LEG, BEAST]
        .iter()
        .flat_map(|text| text.split(|c: char| " \"=<>/\n".contains(c)))
        .filter(|w| !w.is_empty())
        .collect();
    let word = prop_oneof![
        (0..words.len()).prop_map(move |i| words[i].to_owned()),
        any::<f64>().prop_map(|x| format!("{x:e}")),
        Just("0 0 0".to_owned()),
        Just("<body>".to_owned()),
        "[a-z<>/\"= ]{0,8}",
    ];
    let edits = prop::collection::vec((any::<prop::sample::Index>(), word), 1..5);
    (any::<bool>(), edits).prop_map(|(beast, edits)| {
        let mut text: Vec<String> = if beast { BEAST } else { LEG }
            .split_inclusive(|c: char| " \"=<>/\n".contains(c))
            .map(str::to_owned)
            .collect();
        for (at, word) in edits {
            let at = at.index(text.len());
            let part = &mut text[at];
            let end = part.pop().unwrap_or(' ');
            *part = format!("{word}{end}");
        }
        text.concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(2000), failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever stands in a header, also behind a checksum that is right.
    #[test]
    fn checkpoints(bytes in damaged(&SAMPLE), signed: bool, version_1: bool) {
        let mut bytes = bytes;
        if let Some(at) = bytes.windows(17).position(|w| version_1 && w == b"\"pwm_version\":\"2\"") {
            bytes[at + 15] = b'1';
        }
        if signed {
            sign(&mut bytes, version_1);
        }
        let len = bytes.len();
        let held = most(|| {
            let Ok(c) = Checkpoint::read(Path::new("x"), ByteSource::Memory(bytes)) else { return };
            let tensors: u64 = c.names().filter_map(|n| c.tensor(n).ok()).map(|t| t.bytes()).sum();
            assert!(tensors <= len as u64);
            for name in c.names() {
                let _ = (c.values::<f32>(name), c.values::<u32>(name), c.values::<u8>(name));
            }
            let mut w = [0f32; 6];
            let _ = (c.copy_into("w", &[2, 3], &mut w), c.meta_parse::<u64>("epoch"));
        });
        prop_assert!(held <= worth(len), "{held} bytes for {len}");
    }

    #[test]
    fn golden_files(bytes in prop_oneof![damaged(&NUMBERS), prop::collection::vec(any::<u8>(), 0..200)]) {
        let len = bytes.len();
        let held = most(|| {
            let Ok(g) = Golden::parse("x".into(), bytes) else { return };
            for name in g.names() {
                if let Ok(a) = g.read(&name) {
                    assert!(a.values.len() <= len && a.values.len() == a.shape.iter().product::<usize>());
                }
            }
        });
        prop_assert!(held <= worth(len), "{held} bytes for {len}");
    }

    #[test]
    fn any_text_as_settings(
        text in "\\PC*|[-:,\\[\\]{}&*#?|>!%@`'\" \\n\\ta-c0-9.]{0,80}",
        name in ".{0,8}",
    ) {
        let held = most(|| {
            if let Err(errors) = Config::from_yaml::<&str>(&name, &text, &[]) {
                assert!(!errors.to_string().is_empty());
            }
            let _ = load(&[&text]).map_err(|errors| errors.to_string());
        });
        prop_assert!(held <= worth_settings(text.len()), "{held} bytes for {}", text.len());
    }

    #[test]
    fn settings_that_are_accepted_are_valid_and_read_back(lines in prop::collection::vec(near_line(), 1..6)) {
        let text = lines.join("\n");
        let held = most(|| {
            if let Ok(config) = Config::from_yaml::<&str>("near.yaml", &text, &[]) {
                assert!(config.validate().is_ok());
                assert_eq!(Config::from_yaml::<&str>("again.yaml", &config.to_yaml(), &[]).unwrap(), config);
            }
            let overrides = lines.iter().map(|line| line.replacen(": ", "=", 1)).collect::<Vec<_>>();
            let _ = load(&overrides).map_err(|e| e.to_string());
        });
        prop_assert!(held <= worth_settings(text.len()), "{held} bytes for {}", text.len());
    }

    /// A robot or an error with its place, never a panic; what is a robot is a finite one.
    #[test]
    fn any_text_as_a_robot(
        text in prop_oneof![
            near_robot(),
            damaged(BEAST.as_bytes()).prop_map(|b| String::from_utf8_lossy(&b).into_owned()),
            "\\PC*|[-<>/=\"'&;!?a-z0-9 \\n\\[\\]]{0,80}",
        ],
    ) {
        let held = most(|| match Mjcf::read("x.xml", &text).and_then(|m| m.lower()) {
            Ok(robot) => {
                let finite = |x: &f64| x.is_finite();
                assert!(robot.start.iter().all(finite) && robot.robot.offsets().0.last() == Some(&robot.start.len()));
                let masses = robot.robot.bodies.iter().filter_map(|b| b.inertial);
                assert!(masses.into_iter().all(|m| m.mass.is_finite() && m.inertia.as_flattened().iter().all(finite)));
                let _ = robot.robot.validate();
            }
            Err(e) => assert!(e.to_string().starts_with("x.xml") && e.place.line as usize <= text.lines().count().max(1)),
        });
        prop_assert!(held <= worth(text.len()), "{held} bytes for {}", text.len());
    }

    /// Rows or an error.
    #[test]
    fn any_bytes_as_metrics(text in prop::collection::vec(any::<u8>(), 0..200)) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &text).unwrap();
        if let Ok(rows) = read_metrics(file.path()) {
            prop_assert!(rows.len() <= text.len());
        }
    }
}
