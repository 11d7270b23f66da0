//! A checkpoint laid out as published PWM lays it out becomes a policy of ours that computes the same: the fixture is made
//! by `fixtures/make_published_pt.py` with PyTorch, which also wrote down what it computes. Damaged files do no harm.
//!
//! `PROPTEST_CASES=1000000` (scripts/full) tries the readers for longer.

use crate::support::recipe;
use std::path::Path;
use std::process::{Command, Output};

use proptest::prelude::*;
use pwm::io::checkpoint::Checkpoint;
use pwm::io::torch::{TorchFile, pickle, zip};
use pwm::run::export::{Part, export};
use pwm::run::{import, state};

const PT: &[u8] = include_bytes!("../fixtures/published_tiny.pt");
const TRUTH: &str = include_str!("../fixtures/published_tiny.json");

fn pwm(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pwm")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Rows of a tensor that PyTorch computed.
fn truth(name: &str) -> Vec<Vec<f64>> {
    let all: serde_json::Value = serde_json::from_str(TRUTH).unwrap();
    let values: Vec<f64> = all[name]["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    let width = all[name]["shape"].as_array().unwrap().last().unwrap().as_u64().unwrap();
    values.chunks_exact(width as usize).map(<[f64]>::to_vec).collect()
}

#[test]
fn a_published_checkpoint_becomes_a_policy_that_computes_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (pt, ours) = (dir.path().join("theirs.pt"), dir.path().join("theirs.safetensors"));
    std::fs::write(&pt, PT).unwrap();
    let o = pwm(&["import", pt.to_str().unwrap(), "--out", dir.path().to_str().unwrap()]);
    assert!(o.status.success(), "{}", text(&o.stderr));
    let report = text(&o.stdout);
    for line in [
        "encoder_units=[24] units=[24, 20] actor_units=[16, 12] critic_units=[12, 10] latent_dim=16",
        "actor_opt: 33 tensors and ",
        "rew_rms: mean ",
        "of 4096 numbers",
        "51 tensors taken, 0 missing",
    ] {
        assert!(report.contains(line), "{line} is not in\n{report}");
    }
    // It computes what PyTorch does, by way of an export.
    let stored = Checkpoint::load(&ours).unwrap();
    let config = state::config_of(&stored).unwrap().unwrap();
    let out = dir.path().join("out.safetensors");
    export(&stored, &config, &[Part::Actor, Part::Critic, Part::World], &out).unwrap();
    let file = recipe::read(&std::fs::read(&out).unwrap());
    let values = truth("values");
    let rows = truth("obs").len();
    let lowest: Vec<Vec<f64>> =
        (0..rows).map(|i| vec![(0..3).map(|k| values[k * rows + i][0]).fold(f64::INFINITY, f64::min)]).collect();
    for (of, want) in [
        ("latent", truth("latent")),
        ("action", truth("action")),
        ("next_latent", truth("next")),
        ("reward", truth("reward")),
        ("value", lowest),
    ] {
        for (i, want) in want.iter().enumerate() {
            let mut inputs = recipe::Inputs::from([("observation", truth("obs")[i].clone())]);
            if of != "action" {
                inputs.extend([("latent", truth("latent")[i].clone()), ("action", truth("act")[i].clone())]);
            }
            let got = file.run(of, &inputs);
            assert_eq!(got.len(), want.len(), "{of}");
            for (g, w) in got.iter().zip(want) {
                assert!((g - w).abs() < 1e-5 * (1.0 + w.abs()), "{of}: {g} for {w}");
            }
        }
    }
    let rew = stored.values::<f32>("rew_stats").unwrap();
    assert!(rew[2] == 4096.0 && rew[1] > 1.0 && rew[0] != 0.0, "{rew:?}");
    // And it plays.
    let o = pwm(&["eval", ours.to_str().unwrap(), "--episodes", "2"]);
    assert!(o.status.success() && text(&o.stdout).contains("(2 episodes)"), "{}", text(&o.stderr));
}

/// Published names hold returns with a dot in them.
#[test]
fn files_with_dots_in_their_names_do_not_overwrite_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["a_reward76.12", "a_reward76.34"];
    let import = |name: &str| {
        let pt = dir.path().join(format!("{name}.pt"));
        std::fs::write(&pt, PT).unwrap();
        pwm(&["import", pt.to_str().unwrap(), "--out", dir.path().to_str().unwrap()])
    };
    assert!(names.iter().all(|n| import(n).status.success()));
    assert!(names.iter().all(|n| dir.path().join(format!("{n}.safetensors")).is_file()));
    let again = import(names[0]);
    assert!(again.status.code() == Some(1) && text(&again.stderr).contains("is there already"));
}

#[test]
fn what_does_not_fit_is_said_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (pt, ours) = (dir.path().join("a.pt"), dir.path().join("a.safetensors"));
    std::fs::write(&pt, PT).unwrap();
    let import =
        |more: &[&str]| pwm(&[&["import", pt.to_str().unwrap(), "--out", ours.to_str().unwrap()], more].concat());
    let o = import(&["units=[24,24]"]);
    assert_eq!(o.status.code(), Some(4), "{}", text(&o.stderr));
    assert!(text(&o.stdout).contains("MISSING  world_model._dynamics.1.weight: [20, 24] in the file, [24, 24]"));
    assert!(text(&o.stderr).contains("nothing is written"), "{}", text(&o.stderr));
    let o = import(&["unitz=3"]);
    assert_eq!(o.status.code(), Some(2), "{}", text(&o.stderr));
    for (bytes, what) in [
        (&PT[..PT.len() / 2], "no table of contents"),
        (&b"\x80\x02]q\x00."[..], "before PyTorch 1.6"),
        (&b"PK"[..], "no table of contents"),
    ] {
        std::fs::write(&pt, bytes).unwrap();
        let o = import(&[]);
        assert!(o.status.code() == Some(4) && text(&o.stderr).contains(what), "{what}: {}", text(&o.stderr));
    }
    std::fs::remove_file(&pt).unwrap();
    assert_eq!(import(&[]).status.code(), Some(3));
    assert!(!ours.exists());
}

#[test]
fn every_flipped_bit_of_names_and_numbers_is_found() {
    // Each entry has a checksum, and its name stands in two places; the rest is padding and dates.
    let good = zip::entries(PT).unwrap();
    let mut state = 7u64;
    let mut found = 0;
    for _ in 0..1000 {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let bit = (state >> 33) as usize % (PT.len() * 8);
        let mut bad = PT.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        match zip::entries(&bad) {
            Err(_) => found += 1,
            Ok(read) => assert!(read == good, "bit {bit}"),
        }
    }
    assert!(found > 400, "{found}");
}

/// A pickle as Python would write it, wrapped as torch.save wraps it; its checksum holds.
fn wrapped(pickle: &[u8]) -> Vec<u8> {
    let crc = !pickle
        .iter()
        .fold(!0u32, |c, b| (0..8).fold(c ^ u32::from(*b), |c, _| (c >> 1) ^ (0xEDB8_8320 & (c & 1).wrapping_neg())));
    let name = b"a/data.pkl";
    let (len, name_len) = ((pickle.len() as u32).to_le_bytes(), (name.len() as u16).to_le_bytes());
    let sizes = [&crc.to_le_bytes()[..], &len, &len, &name_len, &[0, 0]].concat();
    let local = [&b"PK\x03\x04"[..], &[0u8; 10], &sizes, name, pickle].concat();
    let entry = [&b"PK\x01\x02"[..], &[0u8; 12], &sizes, &[0; 8], &[0; 4], &[0; 2], name].concat();
    let at = (local.len() as u32).to_le_bytes();
    let entry_len = (entry.len() as u32).to_le_bytes();
    [&local[..], &entry, b"PK\x05\x06", &[0; 4], &[1, 0, 1, 0], &entry_len, &at, &[0; 2]].concat()
}

#[test]
fn nothing_is_run_and_nothing_grows() {
    // A call of os.system is a name and no more.
    let call = b"\x80\x02cos\nsystem\nq\x00X\x04\x00\x00\x00exitq\x01\x85q\x02Rq\x03.";
    let file = wrapped(call);
    let read = TorchFile::parse(&file).unwrap();
    assert_eq!(read.objects[""], "os system");
    // A list of ten times the list before it, eighty times over.
    let mut bomb = b"\x80\x02]q\x00".to_vec();
    for i in 1..80u8 {
        bomb.extend([b']', b'q', i, b'(']);
        bomb.extend([b'h', i - 1].repeat(10));
        bomb.push(b'e');
    }
    bomb.push(b'.');
    let e = TorchFile::parse(&wrapped(&bomb)).unwrap_err();
    assert!(e.contains("too deep or too large"), "{e}");
    // A list that holds itself.
    let e = TorchFile::parse(&wrapped(b"\x80\x02]q\x00h\x00a.")).unwrap_err();
    assert!(e.contains("too deep or too large"), "{e}");
    // Text of four thousand million bytes that are not there.
    let e = TorchFile::parse(&wrapped(b"\x80\x02X\xff\xff\xff\xffab.")).unwrap_err();
    assert!(e.contains("cut short"), "{e}");
}

/// The fixture's pickle.
fn inner() -> Vec<u8> {
    zip::entries(PT).unwrap()["published_tiny/data.pkl"].to_vec()
}

proptest! {
    /// Bytes of a good pickle changed: an error, or a tree no larger than the bytes allow.
    #[test]
    fn a_wrong_pickle_does_no_harm(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = inner();
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let len = bytes.len();
        if let Ok(p) = pickle::read(&bytes) {
            prop_assert!(p.len() <= len);
        }
        if let Ok(file) = TorchFile::parse(&wrapped(&bytes)) {
            let _ = import::settings(&file);
            for t in file.leaves.keys().filter_map(|k| file.tensor(k)) {
                prop_assert!(file.values(t).map_or(0, |v| v.len()) <= PT.len());
            }
        }
    }

    /// Any opcodes.
    #[test]
    fn any_bytes_as_a_pickle(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(p) = pickle::read(&bytes) {
            prop_assert!(p.len() <= bytes.len());
        }
    }

    /// Tables of contents that lie.
    #[test]
    fn a_wrong_zip_does_no_harm(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = wrapped(b"\x80\x02}q\x00.");
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(file) = TorchFile::parse(&bytes) {
            prop_assert!(file.leaves.len() <= bytes.len());
        }
    }
}

#[test]
fn importing_is_the_same_twice() {
    let dir = tempfile::tempdir().unwrap();
    let file = TorchFile::parse(PT).unwrap();
    let config = pwm::config::load(&[vec!["alg=pwm_5M".to_string()], import::settings(&file)].concat()).unwrap();
    let save = |name: &str| {
        let path = dir.path().join(name);
        let imported = import::import(&file, &config);
        imported.complete(Path::new("x")).unwrap();
        imported.save(&path).unwrap();
        std::fs::read(path).unwrap()
    };
    assert_eq!(save("a"), save("b"));
}
