//! Recorded episodes: the published layout read where it lies, to the bit; indices, missing and changed chunks; files
//! that are written here, read by Python; damaged ones.

use proptest::prelude::*;
use pwm::io::episodes::scan::{Depth, chunks_in, scan};
use pwm::io::episodes::write::Episodes;
use pwm::io::episodes::{Chunk, Index, Store};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tensordict/old_layout.pt")
}

fn pwm(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pwm")).args(args).output().unwrap()
}

fn said(o: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr))
}

/// Episodes whose numbers say where they stand.
fn made(tasks: &[i32], rows: usize, obs_dim: usize, act_dim: usize) -> Episodes {
    let mut e = Episodes { rows, obs_dim, act_dim, task: tasks.to_vec(), ..Episodes::default() };
    for (i, task) in tasks.iter().enumerate() {
        for row in 0..rows {
            let number = |k: usize| (*task as f32) * 1000.0 + (i * 100 + row) as f32 + k as f32 / 64.0;
            e.obs.extend((0..obs_dim).map(number));
            e.action.extend((0..act_dim).map(|k| if row == 0 { f32::NAN } else { -number(k) }));
            e.reward.push(if row == 0 { f32::NAN } else { number(0) / 8.0 });
        }
    }
    e
}

/// Rows of a file as a Python program reads it; none where there is no Python.
fn by_python(path: &Path, rows: &[(u64, usize)]) -> Option<Vec<Vec<u32>>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/read_chunk.py");
    let wanted = rows.iter().flat_map(|(e, r)| [e.to_string(), r.to_string()]);
    let o = Command::new("python3").arg(script).arg(path).args(wanted).output().ok()?;
    assert!(o.status.success(), "{}", said(&o));
    let line = |l: &str| l.split(' ').map(|w| u32::from_str_radix(w, 16).unwrap()).collect();
    Some(String::from_utf8(o.stdout).unwrap().lines().map(line).collect())
}

/// The bits of a row: observation, action, reward.
fn row(store: &Store, task: usize, episode: u64, row: usize) -> Vec<u32> {
    let e = store.episode(task, episode);
    let (obs, action) = store.bytes(e, row);
    let numbers = obs.as_chunks::<4>().0.iter().chain(action.as_chunks::<4>().0);
    numbers.map(|b| u32::from_le_bytes(*b)).chain([store.reward(e, row).to_bits()]).collect()
}

#[test]
fn golden_chunk_of_the_published_layout() {
    let path = golden();
    let (chunk, _) = Chunk::open(&path).unwrap();
    assert_eq!((chunk.episodes, chunk.rows, chunk.obs.width, chunk.action.width), (7, 501, 24, 6));
    let index = scan(std::slice::from_ref(&path), Depth::All, |_, _| ()).unwrap();
    let names: Vec<&str> = index.tasks.iter().map(|t| t.name.as_str()).collect();
    let published =
        ["walker-stand", "walker-walk", "walker-run", "cheetah-run", "reacher-easy", "reacher-hard", "acrobot-swingup"];
    assert_eq!(names, published);
    // `RandomState(0)` of numpy: observations, actions, rewards, in this order.
    let close = |x: f64, y: f64| assert!((x - y).abs() < 1e-9 * y.abs(), "{x} {y}");
    close(index.tasks[0].episode_return.mean, 255.057_528_4);
    close(index.tasks[6].episode_return.mean, 240.970_103_98);
    assert!(index.tasks.iter().all(|t| (t.episodes, t.rows, t.obs, t.action, t.not_finite) == (1, 501, 24, 6, 0)));
    let tasks: Vec<String> = published.map(str::to_owned).to_vec();
    let store = Store::open(&[(path.clone(), index)], &tasks).unwrap();
    let bits = row(&store, 3, 0, 100);
    assert_eq!(f32::from_bits(bits[5]), 0.082_102_07);
    assert_eq!(f32::from_bits(row(&store, 6, 0, 500)[24 + 2]), 1.063_231_6);
    assert_eq!(store.reward(store.episode(2, 0), 7), 0.627_349_56);
    let Some(seen) = by_python(&path, &[(3, 100), (6, 500), (0, 0)]) else {
        return println!("SKIPPED: there is no python3 to read the file beside us");
    };
    for ((task, at), seen) in [(3, 100), (6, 500), (0, 0)].into_iter().zip(seen) {
        assert_eq!(row(&store, task, 0, at), seen[..seen.len() - 1]);
        assert_eq!(seen[seen.len() - 1], task as u32);
    }
}

#[test]
fn what_is_written_is_read_to_the_bit() {
    let dir = tempfile::tempdir().unwrap();
    // Two tasks in turns, in one file; one of them again in another, with narrower rows.
    made(&[7, 7, 2, 7], 6, 5, 3).write(&dir.path().join("chunk_10.pt")).unwrap();
    made(&[2, 2], 4, 4, 2).write(&dir.path().join("chunk_2.pt")).unwrap();
    let chunks = chunks_in(dir.path()).unwrap();
    assert!(chunks[0].ends_with("chunk_2.pt"), "by number: {chunks:?}");
    let mut told = vec![];
    let index = scan(&chunks, Depth::All, |done, all| told.push((done, all))).unwrap();
    assert_eq!(told.last().unwrap().0, told.last().unwrap().1);
    assert!(told.windows(2).all(|w| w[0].0 < w[1].0));
    let of = |i: usize| (index.tasks[i].name.as_str(), index.tasks[i].episodes, index.tasks[i].rows);
    assert_eq!([of(0), of(1)], [("walker-run", 3, 14), ("pendulum-swingup", 3, 18)]);
    let file = dir.path().join("all.idx");
    index.save(&file).unwrap();
    assert!(!std::fs::read_to_string(&file).unwrap().contains(dir.path().to_str().unwrap()), "moves with its chunks");
    let loaded = Index::load(&file).unwrap();
    assert_eq!(loaded.tasks, index.tasks);

    let tasks = ["pendulum-swingup".to_owned(), "walker-run".to_owned()];
    let store = Store::open(&[(file, loaded)], &tasks).unwrap();
    assert_eq!((store.tasks()[0].episodes, store.tasks()[1].episodes, store.shortest()), (3, 3, 4));
    // The third episode of the first task is the fourth of its file.
    let bits = row(&store, 0, 2, 5);
    assert_eq!(f32::from_bits(bits[0]), 7305.0);
    // Those of the second task: two of the narrow file, then one of the other.
    assert_eq!((row(&store, 1, 1, 3).len(), row(&store, 1, 2, 3).len()), (4 + 2 + 1, 5 + 3 + 1));
    assert_eq!(f32::from_bits(row(&store, 1, 2, 3)[0]), 2203.0);
    let mut wide = [1.0f32; 7];
    store.obs(store.episode(1, 0), 2, &mut wide);
    assert_eq!(wide[3..], [2002.0 + 3.0 / 64.0, 0.0, 0.0, 0.0]);
    if let Some(seen) = by_python(&dir.path().join("chunk_10.pt"), &[(3, 5), (1, 0)]) {
        assert_eq!(row(&store, 0, 2, 5), seen[0][..9]);
        assert_eq!(row(&store, 0, 1, 0), seen[1][..9], "filler too");
    }
}

#[test]
fn statistics_leave_filler_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut e = made(&[0, 0], 3, 4, 3);
    e.obs.iter_mut().skip(3).step_by(4).for_each(|x| *x = 0.0);
    e.action.iter_mut().for_each(|x| *x = if x.is_nan() { 9.0 } else { 0.0 });
    e.action[3] = -1.0;
    e.reward = vec![99.0, 1.0, 2.0, -99.0, 3.0, f32::INFINITY];
    let path = dir.path().join("c.pt");
    e.write(&path).unwrap();
    let index = scan(&[path], Depth::All, |_, _| ()).unwrap();
    let t = &index.tasks[0];
    assert_eq!((t.obs, t.action, t.not_finite), (3, 1, 1));
    assert_eq!((t.reward.min, t.reward.max, t.reward.mean), (1.0, 3.0, 2.0));
    assert_eq!((t.episode_return.min, t.episode_return.max), (3.0, 3.0));
}

#[test]
fn what_is_missing_or_changed_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    made(&[0, 1], 3, 4, 2).write(&at("chunk_0.pt")).unwrap();
    made(&[29], 3, 4, 2).write(&at("chunk_1.pt")).unwrap();
    let index = scan(&chunks_in(dir.path()).unwrap(), Depth::All, |_, _| ()).unwrap();
    let open = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        Store::open(&[(at("x.idx"), index.clone())], &names).map_err(|e| e.to_string())
    };
    assert!(open(&["walker-stand", "pendulum-spin"]).is_ok());
    let e = open(&["walker-stand", "hopper-hop"]).unwrap_err();
    assert!(e.contains("no episodes of `hopper-hop`") && e.contains("pendulum-spin"), "{e}");
    std::fs::remove_file(at("chunk_1.pt")).unwrap();
    assert!(open(&["walker-stand"]).is_ok(), "a chunk that nothing is wanted of may be missing");
    let e = open(&["walker-stand", "pendulum-spin"]).unwrap_err();
    assert!(e.contains("chunk_1.pt is missing, with episodes of pendulum-spin"), "{e}");
    made(&[0, 1, 1], 3, 4, 2).write(&at("chunk_0.pt")).unwrap();
    let e = open(&["walker-stand"]).unwrap_err();
    assert!(e.contains("index the data anew"), "{e}");
    // Rows of one episode are of one task, and tasks have names.
    let mut e = made(&[0], 3, 4, 2);
    e.task = vec![80];
    e.write(&at("chunk_0.pt")).unwrap();
    let e = scan(&[at("chunk_0.pt")], Depth::Tasks, |_, _| ()).unwrap_err().to_string();
    assert!(e.contains("task 80") && e.contains("tasks.json"), "{e}");
    std::fs::write(at("tasks.json"), serde_json::to_string(&vec!["mine"; 81]).unwrap()).unwrap();
    assert_eq!(scan(&[at("chunk_0.pt")], Depth::Tasks, |_, _| ()).unwrap().tasks[0].name, "mine");
    // A number that flips is told by its checksum, if all are read.
    let mut bytes = std::fs::read(at("chunk_0.pt")).unwrap();
    let (chunk, _) = Chunk::open(&at("chunk_0.pt")).unwrap();
    bytes[chunk.obs.at as usize + 5] ^= 1;
    std::fs::write(at("chunk_0.pt"), &bytes).unwrap();
    let e = scan(&[at("chunk_0.pt")], Depth::All, |_, _| ()).unwrap_err().to_string();
    assert!(e.contains("its checksum does not match"), "{e}");
}

#[test]
fn commands_look_index_and_sort() {
    let dir = tempfile::tempdir().unwrap();
    let text = |p: &Path| p.to_str().unwrap().to_owned();
    let (folder, idx, sorted) = (text(dir.path()), text(&dir.path().join("a.idx")), text(&dir.path().join("sorted")));
    made(&[3, 1, 3, 1], 5, 24, 6).write(&dir.path().join("chunk_0.pt")).unwrap();
    let o = pwm(&["data", "inspect", &folder]);
    assert!(o.status.success() && said(&o).contains("2 tasks, 4 episodes, 20 rows"), "{}", said(&o));
    assert!(said(&o).contains("without episodes: walker-stand, walker-run, reacher-easy"), "{}", said(&o));
    let o = pwm(&["data", "inspect", "--json", &folder]);
    let json: serde_json::Value = serde_json::from_slice(&o.stdout).unwrap();
    assert_eq!((&json["tasks"][1]["task"], &json["tasks"][1]["steps"]), (&"cheetah-run".into(), &8.into()));
    assert_eq!(json["missing"].as_array().unwrap().len(), 28);
    let o = pwm(&["data", "index", &folder, "--out", &idx]);
    assert!(o.status.success() && said(&o).contains("cheetah-run: a step earns"), "{}", said(&o));
    let o = pwm(&["data", "split", &idx, "--out", &sorted, "--tasks", "cheetah-run", "--episodes", "1"]);
    assert!(o.status.success(), "{}", said(&o));
    let index = scan(&chunks_in(Path::new(&sorted)).unwrap(), Depth::All, |_, _| ()).unwrap();
    assert_eq!((index.files.len(), index.tasks.len(), index.tasks[0].episodes), (2, 1, 2));
    let tasks = ["cheetah-run".to_owned()];
    let whole = Store::open(&[(idx.clone().into(), Index::load(Path::new(&idx)).unwrap())], &tasks).unwrap();
    let parts = Store::open(&[(sorted.clone().into(), index)], &tasks).unwrap();
    for episode in 0..2 {
        for at in 0..5 {
            assert_eq!(row(&whole, 0, episode, at), row(&parts, 0, episode, at));
        }
    }
    let o = pwm(&["data", "split", &idx, "--out", &sorted, "--tasks", "cheetah-walk"]);
    assert!(o.status.code() == Some(2) && said(&o).contains("`cheetah-walk`"), "{}", said(&o));
    let o = pwm(&["data", "inspect", &text(&dir.path().join("nowhere"))]);
    assert_eq!(o.status.code(), Some(3), "{}", said(&o));
    std::fs::write(dir.path().join("b.idx"), "{}").unwrap();
    let o = pwm(&["data", "inspect", &text(&dir.path().join("b.idx"))]);
    assert!(o.status.code() == Some(4) && said(&o).contains("pwm data index"), "{}", said(&o));
}

/// A small chunk, and an index.
static CHUNK: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.pt");
    made(&[0, 1], 3, 2, 1).write(&path).unwrap();
    std::fs::read(path).unwrap()
});
static INDEX: LazyLock<String> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let (path, out) = (dir.path().join("c.pt"), dir.path().join("i"));
    std::fs::write(&path, &*CHUNK).unwrap();
    scan(&[path], Depth::All, |_, _| ()).unwrap().save(&out).unwrap();
    std::fs::read_to_string(out).unwrap()
});

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(2000), failure_persistence: None, ..ProptestConfig::default() })]

    /// What describes a chunk leads to bytes that are there, whatever stands in it.
    #[test]
    fn damaged_chunks(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut: Option<prop::sample::Index>) {
        let mut bytes = CHUNK.clone();
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok((chunk, checked)) = Chunk::understand(&bytes) {
            for a in chunk.arrays() {
                prop_assert!(a.at + chunk.len(&a) <= bytes.len() as u64);
            }
            prop_assert!(checked.iter().all(|c| c.at + c.len <= bytes.len() as u64));
        }
    }

    #[test]
    fn damaged_indices(edits in prop::collection::vec((any::<prop::sample::Index>(), "[0-9{}\",:a-z-]{1,3}"), 1..6)) {
        let mut text = INDEX.clone();
        for (at, with) in edits {
            let at = at.index(text.len());
            if text.is_char_boundary(at) {
                text.replace_range(at..at + 1, &with);
            }
        }
        if let Ok(index) = Index::parse(&text) {
            for f in &index.files {
                prop_assert!(f.chunk.arrays().iter().all(|a| a.at + f.chunk.len(a) <= f.bytes));
            }
        }
    }
}
