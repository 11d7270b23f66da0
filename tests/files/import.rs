//! A checkpoint laid out as published PWM lays it out becomes a policy of ours that computes the same: the fixture is
//! made by `fixtures/make_published_pt.py` with PyTorch, which also wrote down what it computes. Damaged files do no
//! harm.
//!
//! `PROPTEST_CASES=1000000` (scripts/full) tries the readers for longer.

use crate::support::recipe;
use approx::relative_eq;
use std::path::Path;
use std::process::{Command, Output};

use proptest::prelude::*;
use pwm::io::checkpoint::Checkpoint;
use pwm::io::torch::{TorchFile, pickle, zip};
use pwm::run::export::{ExportPart, export};
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
    export(&stored, &config, &[ExportPart::Actor, ExportPart::Critic, ExportPart::World], &out).unwrap();
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
            let near = relative_eq!(got[..], want[..], epsilon = 1e-5, max_relative = 1e-5);
            assert!(near, "{of}: {got:?} for {want:?}");
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
    assert!(again.status.code() == Some(2) && text(&again.stderr).contains("is there already"));
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

/// The same with every size and place in the records of the 64-bit extension, as files of more than 4 GB have them.
fn wrapped_64(pickle: &[u8]) -> Vec<u8> {
    let plain = wrapped(pickle);
    let (name, far) = (b"a/data.pkl", [0xff; 4]);
    let (len, name_len) = ((pickle.len() as u64).to_le_bytes(), (name.len() as u16).to_le_bytes());
    let crc = &plain[14..18];
    // Sizes; then, in the table of contents, the place too.
    let sizes = [&[1, 0, 16, 0][..], &len, &len].concat();
    let sizes_and_place = [&[1, 0, 24, 0][..], &len, &len, &[0; 8]].concat();
    let local =
        [&b"PK\x03\x04"[..], &[45, 0], &[0; 8], crc, &far, &far, &name_len, &[20, 0], name, &sizes, pickle].concat();
    let made = [45, 3, 45, 0];
    let entry = [
        &b"PK\x01\x02"[..],
        &made,
        &[0; 8],
        crc,
        &far,
        &far,
        &name_len,
        &[28, 0],
        &[0; 10],
        &far,
        name,
        &sizes_and_place,
    ]
    .concat();
    let (at, entry_len) = ((local.len() as u64).to_le_bytes(), (entry.len() as u64).to_le_bytes());
    let one = 1u64.to_le_bytes();
    let end_64 = [&b"PK\x06\x06"[..], &44u64.to_le_bytes(), &made, &[0; 8], &one, &one, &entry_len, &at].concat();
    let end_at = ((local.len() + entry.len()) as u64).to_le_bytes();
    let locator = [&b"PK\x06\x07"[..], &[0; 4], &end_at, &[1, 0, 0, 0]].concat();
    let end = [&b"PK\x05\x06"[..], &[0; 4], &far, &far, &far, &[0; 2]].concat();
    [local, entry, end_64, locator, end].concat()
}

#[test]
fn the_64_bit_extension_is_read() {
    let pickle = inner();
    let (plain, long) = (wrapped(&pickle), wrapped_64(&pickle));
    assert_eq!(zip::entries(&long).unwrap()["a/data.pkl"], pickle);
    assert_eq!(zip::entries(&plain).unwrap(), zip::entries(&long).unwrap());
    let (plain, long) = (TorchFile::parse(&plain).unwrap(), TorchFile::parse(&long).unwrap());
    assert!(!plain.leaves.is_empty() && plain.leaves == long.leaves);
    let mut damaged = wrapped_64(&pickle);
    damaged[60 + pickle.len() / 2] ^= 1;
    assert!(zip::entries(&damaged).is_err());
}

/// Half precision of both kinds, exactly.
#[test]
fn half_precision_is_read() {
    for (kind, numbers) in [("HalfStorage", [0x00, 0x3c, 0x00, 0xc1]), ("BFloat16Storage", [0x80, 0x3f, 0x20, 0xc0])] {
        let text = |s: &str| [&b"X"[..], &(s.len() as u32).to_le_bytes(), s.as_bytes()].concat();
        // _rebuild_tensor_v2(('storage', torch.KIND, '0', 'cpu', 2), 0, (2,), (1,), False, {})
        let class = |module: &str, name: &str| [b"c", module.as_bytes(), b"\n", name.as_bytes(), b"\n"].concat();
        let storage =
            [b"(".to_vec(), text("storage"), class("torch", kind), text("0"), text("cpu"), b"K\x02tQ".to_vec()];
        let pickle = [
            &b"\x80\x02}"[..],
            &text("w"),
            &class("torch._utils", "_rebuild_tensor_v2"),
            b"(",
            &storage.concat(),
            b"K\x00K\x02\x85K\x01\x85\x89}tRs.",
        ]
        .concat();
        let mut file = std::io::Cursor::new(vec![]);
        let mut writer = ::zip::ZipWriter::new(&mut file);
        let stored = ::zip::write::SimpleFileOptions::default().compression_method(::zip::CompressionMethod::Stored);
        for (name, bytes) in [("a/data.pkl", &pickle[..]), ("a/data/0", &numbers)] {
            writer.start_file(name, stored).unwrap();
            std::io::Write::write_all(&mut writer, bytes).unwrap();
        }
        writer.finish().unwrap();
        let file = file.into_inner();
        let read = TorchFile::parse(&file).unwrap();
        assert_eq!(read.values(read.tensor("w").unwrap()).unwrap(), [1.0, -2.5], "{kind}");
    }
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

/// TD-MPC2's own files: a model alone, of thirty tasks, whose names are known; a dead reward head is told.
#[test]
fn a_model_of_many_tasks_is_taken_without_its_planner() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let out = dir.path().join("ours.safetensors");
    let take = |name: &str| pwm(&["import", fixture(name).to_str().unwrap(), "--out", out.to_str().unwrap()]);
    let o = take("tdmpc2_dead.pt");
    assert!(o.status.success() && text(&o.stdout).contains("DEAD: the reward head"), "{}", text(&o.stdout));
    let o = take("tdmpc2_tiny.pt");
    let report = text(&o.stdout);
    assert!(o.status.success() && !report.contains("DEAD"), "{report}{}", text(&o.stderr));
    for line in
        ["task_dim=4", "tasks=[walker-stand,", "31 tensors taken, 0 missing", "ignored  model: 8 tensors", "a model"]
    {
        assert!(report.contains(line), "{line} is not in\n{report}");
    }
    let stored = Checkpoint::load(&out).unwrap();
    let config = state::config_of(&stored).unwrap().unwrap();
    assert_eq!((config.model_tasks().len(), config.is_played()), (30, false));
    // Every number is where the networks look for it.
    let bytes = std::fs::read(fixture("tdmpc2_tiny.pt")).unwrap();
    let file = TorchFile::parse(&bytes).unwrap();
    let (params, mut vars) = (stored.values::<f32>("world_model.params").unwrap(), pwm::tape::Vars::default());
    let nets = pwm::algo::pwm::PwmNets::new(&mut vars, &config, 24, 6);
    assert_eq!(nets.world.group.len, params.len());
    for e in &nets.world.group.entries {
        let theirs = format!("model._{}", e.name.replace("encoder.", "encoder.state."));
        let theirs = file.values(file.tensor(&theirs).unwrap()).unwrap();
        assert_eq!(params[e.offset..e.offset + e.len()], theirs, "{}", e.name);
    }
    // What a task has of an action is that of its environment: the pendulum's torque, all six of the walker's.
    let mask = stored.values::<f32>("action_mask").unwrap();
    let of = |task: usize| mask[task * 6..(task + 1) * 6].iter().sum::<f32>();
    assert_eq!([of(0), of(7), of(16)], [6.0, 1.0, 5.0]);
    // As Python writes it again, where there is one.
    let again = dir.path().join("again.pt");
    if let Ok(o) = Command::new("python3").arg(fixture("make_tdmpc2_pt.py")).arg(&again).output() {
        assert!(o.status.success(), "{}", text(&o.stderr));
        assert_eq!(std::fs::read(again).unwrap(), bytes);
    }
}
