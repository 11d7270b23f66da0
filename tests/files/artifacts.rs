//! What a run leaves on disk, tested from outside: checkpoints under damage, plots, the moving picture.
//!
//! `PWM_ARTIFACTS=DIR cargo test --test files artifacts` also leaves the files in DIR, to be looked at.

use crate::support::only;
use std::collections::BTreeMap;
use std::path::Path;

use pwm::draw::curve::LearningCurve;
use pwm::draw::plot::{Look, Plot, Reference, Series};
use pwm::draw::viewer::{Movie, MovieShape, Readout};
use pwm::io::checkpoint::{self, Checkpoint, CheckpointError, Section, Tensor};
use pwm::io::metrics::{Metrics, Row, Start, read_metrics};

/// A small generator with no dependency; the tests want variety, not quality.
struct Lcg(u64);

impl Lcg {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 33
    }

    fn unit(&mut self) -> f64 {
        self.next() as f64 / (1u64 << 31) as f64
    }
}

fn keep_file(name: &str, text: impl AsRef<[u8]>) {
    if let Some(dir) = std::env::var_os("PWM_ARTIFACTS") {
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(Path::new(&dir).join(name), text).unwrap();
    }
}

fn meta() -> BTreeMap<String, String> {
    BTreeMap::from([("config".into(), "lr: 1e-3\nname: \"ä\"\n".into()), ("epoch".into(), "12".into())])
}

fn save_sample(path: &Path, shift: f32) {
    let w: Vec<f32> = (0..600).map(|i| i as f32 * 0.5 + shift).collect();
    let v = [1.0f64, -2.5, f64::NAN];
    let counters = [u64::MAX, 7];
    let tensors = [
        Tensor::of("flags", &[3], &[1u8, 0, 1]),
        Tensor::of("actor.w", &[20, 30], &w),
        Tensor::of("norm.var", &[3], &v).within(Section::Statistics),
        Tensor::of("rng", &[2], &counters).within(Section::Counters),
        Tensor::of("step", &[], &[41u32]).within(Section::Counters),
        Tensor::of::<f32>("empty", &[0, 4], &[]),
    ];
    checkpoint::save(path, tensors, &meta()).unwrap();
}

#[test]
fn a_checkpoint_reads_back_and_its_bytes_depend_on_state_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a.safetensors"), dir.path().join("b.safetensors"));
    save_sample(&a, 0.0);
    save_sample(&b, 0.0);
    let bytes = std::fs::read(&a).unwrap();
    keep_file("sample.safetensors", &bytes);
    assert_eq!(bytes, std::fs::read(&b).unwrap());
    let c = Checkpoint::load(&a).unwrap();
    assert_eq!(c.meta(), &meta());
    assert_eq!(c.meta_parse::<u64>("epoch").unwrap(), 12);
    assert_eq!(c.names().collect::<Vec<_>>(), ["actor.w", "empty", "flags", "norm.var", "rng", "step"]);
    let mut w = vec![0f32; 600];
    c.copy_into("actor.w", &[20, 30], &mut w).unwrap();
    assert_eq!(w[599], 299.5);
    assert!(c.values::<f64>("norm.var").unwrap()[2].is_nan());
    assert_eq!(c.values::<u64>("rng").unwrap(), [u64::MAX, 7]);
    assert_eq!(c.values::<u32>("step").unwrap(), [41]);
    assert!(matches!(c.copy_into("actor.w", &[30, 20], &mut w), Err(CheckpointError::Mismatch { .. })));
    assert!(matches!(c.tensor("critic.w"), Err(CheckpointError::Absent { .. })));
    // Any other reader of the format opens it, and finds every tensor on its alignment.
    let other = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for (name, view) in other.iter() {
        let at = view.data().as_ptr() as usize - bytes.as_ptr() as usize;
        assert_eq!(at % c.tensor(name).unwrap().dtype.size(), 0, "{name}");
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("latest.safetensors");
    save_sample(&path, 0.0);
    let good = std::fs::read(&path).unwrap();
    let mut rng = Lcg(1);
    // All bits of the header, where the parser is, and a thousand anywhere.
    let header = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let anywhere: Vec<usize> = (0..1000).map(|_| rng.next() as usize % (good.len() * 8)).collect();
    for bit in (0..header * 8).chain(anywhere) {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(Checkpoint::parse(&path, bad).is_err(), "bit {bit}");
    }
    for len in 0..good.len() {
        let e = Checkpoint::parse(&path, good[..len].to_vec()).unwrap_err();
        assert!(matches!(e, CheckpointError::Truncated { .. }), "{len}: {e}");
    }
    let longer = [&good[..], &[0; 9]].concat();
    assert!(matches!(Checkpoint::parse(&path, longer), Err(CheckpointError::Damaged { .. })));
    // Rubbish of any length neither panics nor passes.
    for _ in 0..2000 {
        let junk: Vec<u8> = (0..rng.next() % 200).map(|_| rng.next() as u8).collect();
        assert!(Checkpoint::parse(&path, junk).is_err());
    }
}

/// A file with all sections, and where in it the numbers of each lie.
fn sections(path: &Path) -> Vec<(Section, std::ops::Range<usize>)> {
    use Section::*;
    let all = [Networks, Statistics, Optimiser, Counters, Environment, Replay];
    let numbers: Vec<Vec<f32>> = (0..all.len()).map(|i| vec![i as f32 + 0.5; 100 + i]).collect();
    let shapes: Vec<[usize; 1]> = numbers.iter().map(|n| [n.len()]).collect();
    let tensors = all.iter().zip(&numbers).zip(&shapes);
    let tensors = tensors.map(|((s, n), shape)| Tensor::of(s.name(), shape, n).within(*s));
    checkpoint::save(path, tensors, &meta()).unwrap();
    let mut end = std::fs::metadata(path).unwrap().len() as usize;
    let mut ranges: Vec<_> = all
        .iter()
        .zip(&numbers)
        .rev()
        .map(|(s, n)| {
            end -= 4 * n.len();
            (*s, end..end + 4 * n.len())
        })
        .collect();
    ranges.reverse();
    ranges
}

#[test]
fn damage_is_told_by_section_and_the_others_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("latest.safetensors");
    let ranges = sections(&path);
    let good = std::fs::read(&path).unwrap();
    let mut rng = Lcg(3);
    for round in 0..1000 {
        let (hit, range) = &ranges[round % ranges.len()];
        let mut bad = good.clone();
        bad[range.start + rng.next() as usize % range.len()] ^= 1 << (rng.next() % 8);
        std::fs::write(&path, &bad).unwrap();
        let e = Checkpoint::load(&path).unwrap_err();
        assert!(matches!(e, CheckpointError::Damaged { .. }), "{e}");
        assert!(e.to_string().contains(&format!("section {} is not", hit.name())), "{e}");
        let usable = !matches!(hit, Section::Networks | Section::Statistics);
        assert_eq!(e.to_string().contains("`pwm eval`"), usable, "{e}");
        let c = Checkpoint::salvage(&path).unwrap();
        for (i, (section, _)) in ranges.iter().enumerate() {
            let read = c.values::<f32>(section.name());
            if section == hit {
                assert!(matches!(read, Err(CheckpointError::Damaged { .. })), "{read:?}");
            } else {
                assert_eq!(read.unwrap(), vec![i as f32 + 0.5; 100 + i]);
            }
        }
    }
    // Cut short in the replay, which is last: everything before it is there.
    std::fs::write(&path, &good[..good.len() - 7]).unwrap();
    assert!(matches!(Checkpoint::load(&path), Err(CheckpointError::Truncated { .. })));
    let c = Checkpoint::salvage(&path).unwrap();
    assert!(c.loss().unwrap().contains("section replay is not"), "{:?}", c.loss());
    assert_eq!(c.values::<f32>("environment").unwrap()[0], 4.5);
    // Nothing can be said of sections without the header.
    let mut bad = good;
    bad[60] ^= 1;
    std::fs::write(&path, &bad).unwrap();
    assert!(Checkpoint::salvage(&path).unwrap_err().to_string().contains("the header is not whole"));
}

#[test]
fn other_files_and_other_versions_are_named_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    assert!(Checkpoint::load(&path).unwrap_err().to_string().contains("x.safetensors: no such file"));
    std::fs::write(&path, "seed: 1\nrun_dir: somewhere\n").unwrap();
    assert!(matches!(Checkpoint::load(&path), Err(CheckpointError::NotACheckpoint { .. })));
    let plain = safetensors::serialize(
        [("a", safetensors::tensor::TensorView::new(safetensors::Dtype::U8, vec![1], &[1]).unwrap())],
        None,
    );
    std::fs::write(&path, plain.unwrap()).unwrap();
    assert!(matches!(Checkpoint::load(&path), Err(CheckpointError::NotACheckpoint { .. })));
}

#[test]
fn a_checkpoint_that_cannot_be_written_leaves_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("latest.safetensors");
    save_sample(&path, 0.0);
    let old = std::fs::read(&path).unwrap();
    // Wrong input.
    let short =
        Tensor { section: Section::Networks, name: "a", dtype: checkpoint::Dtype::F32, shape: &[3], bytes: &[0; 8] };
    assert!(matches!(checkpoint::save(&path, [short], &meta()), Err(CheckpointError::BadInput { .. })));
    let twice = [Tensor::of("a", &[1], &[1u8]), Tensor::of("a", &[1], &[1u8])];
    assert!(matches!(checkpoint::save(&path, twice, &meta()), Err(CheckpointError::BadInput { .. })));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    // A file system that refuses: something stands where the temporary file goes (this holds for root, too).
    std::fs::create_dir(dir.path().join("latest.safetensors.tmp")).unwrap();
    let e = checkpoint::save(&path, [Tensor::of("a", &[1], &[1u8])], &meta()).unwrap_err();
    assert!(matches!(e, CheckpointError::File(_)) && e.to_string().contains("latest.safetensors"), "{e}");
    assert_eq!(std::fs::read(&path).unwrap(), old);
    Checkpoint::load(&path).unwrap();
}

#[cfg(unix)]
#[test]
fn a_folder_that_may_not_be_written_is_a_typed_error() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("latest.safetensors");
    save_sample(&path, 0.0);
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o555)).unwrap();
    let locked = std::fs::write(dir.path().join("probe"), "").is_err();
    let saved = checkpoint::save(&path, [Tensor::of("a", &[1], &[1u8])], &meta());
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    // Root may write anywhere: there is nothing to refuse then.
    if locked {
        use pwm::io::atomic::FileError;
        assert!(matches!(saved, Err(CheckpointError::File(FileError::ReadOnly { .. }))), "{saved:?}");
        assert_eq!(Checkpoint::load(&path).unwrap().names().count(), 6);
    }
}

/// Rows as a run of some learning would write them.
fn learning(dir: &Path, seed: u64, top: f64) {
    let columns = ["train_return", "actor_loss", "eval_return", "eval_std"];
    let mut m = Metrics::open(dir, &columns, Start::Fresh).unwrap();
    let mut rng = Lcg(seed);
    for epoch in 0..400u64 {
        let x = epoch as f64 / 400.0;
        let level = 140.0 + top / (1.0 + (-12.0 * (x - 0.38)).exp());
        let noise = |rng: &mut Lcg, size: f64| size * (rng.unit() + rng.unit() + rng.unit() - 1.5);
        let train = level * 0.9 + noise(&mut rng, 0.28 * level);
        let eval = if epoch % 16 == 0 { level + noise(&mut rng, 0.06 * level) } else { f64::NAN };
        let std = if epoch % 16 == 0 { 0.05 * level + 0.25 * level * (1.0 - x) * x * 4.0 } else { f64::NAN };
        m.row(epoch * 16_384, epoch, &[train, -level / 100.0, eval, std]).unwrap();
    }
}

#[test]
fn plots_hold_every_point_of_the_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let mut all = vec![];
    for (i, top) in [5200.0, 4300.0, 2400.0].into_iter().enumerate() {
        let run = dir.path().join(i.to_string());
        std::fs::create_dir(&run).unwrap();
        learning(&run, i as u64 + 1, top);
        all.push(read_metrics(&run.join("metrics.jsonl")).unwrap());
        let events = pwm::io::tensorboard::FILE_NAME;
        keep_file(&format!("{i}.{events}"), std::fs::read(run.join(events)).unwrap());
    }
    let curve = |rows: &[Row]| {
        let levels = [("standing still", 1144.0, 1174.0), ("doing nothing", 149.0, 149.0)];
        let levels = levels.map(|(label, low, high)| Reference { label: label.into(), low, high });
        let mut curve = LearningCurve::new("eval_return", "eval_std", "train_return").beside(levels.into());
        rows.iter().for_each(|r| curve.add(r));
        curve
    };
    let one = curve(&all[0]).plot("Made-up learning curve", "test picture: no run behind it");
    assert_eq!(one.series[0].points.len(), 400);
    assert_eq!(one.series[1].points.len(), 25);
    let svg = one.svg();
    keep_file("curve.svg", &svg);
    assert_eq!(svg.matches("<circle").count(), 25 + 1, "a dot a point and one in the legend");
    assert!(svg.contains("1,144–1,174") && svg.contains("149") && svg.ends_with("</svg>\n"));
    assert_eq!(svg, one.svg());
    // The evaluations of all three in one picture.
    let series = all.iter().enumerate().map(|(color, rows)| {
        let points = curve(rows).plot("", "").series.remove(1).points;
        Series { label: format!("seed {}", color + 1), points, look: Look::Measured, color }
    });
    let title = "Three made-up curves".into();
    let many = Plot { title, series: series.collect(), ..Plot::returns() }.svg();
    keep_file("runs.svg", &many);
    assert_eq!(many.matches("<polyline").count(), 3);
    // A short run before anything was learned.
    let early = curve(&all[2][..40]).plot("Made-up first minutes", "").svg();
    keep_file("early.svg", &early);
}

/// A made-up trot: enough of an Ant to look at, with no physics in it.
fn trot(frames: usize) -> (Vec<MovieShape>, Vec<f32>, Vec<Readout>) {
    let mut shapes = vec![MovieShape { radius: 0.25, half_length: 0.0, group: 0 }];
    for _ in 0..4 {
        shapes.push(MovieShape { radius: 0.08, half_length: 0.1414, group: 0 });
    }
    for _ in 0..4 {
        shapes.push(MovieShape { radius: 0.08, half_length: 0.1414, group: 1 });
        shapes.push(MovieShape { radius: 0.08, half_length: 0.2828, group: 2 });
    }
    let (mut poses, mut readouts) = (vec![], vec![]);
    let capsule = |poses: &mut Vec<f32>, a: [f64; 3], b: [f64; 3]| {
        let d: Vec<f64> = (0..3).map(|c| b[c] - a[c]).collect();
        let len = d.iter().map(|x| x * x).sum::<f64>().sqrt();
        // The shortest turn from x to d.
        let q = [0.0, -d[2] / len, d[1] / len, 1.0 + d[0] / len];
        let n = q.iter().map(|x| x * x).sum::<f64>().sqrt();
        poses.extend((0..3).map(|c| ((a[c] + b[c]) / 2.0) as f32));
        poses.extend(q.iter().map(|x| (x / n) as f32));
    };
    for f in 0..frames {
        let t = f as f64 / 60.0;
        let phase = t * 14.0;
        let o = [4.2 * t, 0.52 + 0.05 * (2.0 * phase).sin(), 0.1 * (0.7 * t).sin()];
        let h = std::f32::consts::FRAC_1_SQRT_2;
        poses.extend(o.iter().map(|&x| x as f32));
        poses.extend([-h, 0.0, 0.0, h]);
        let legs: Vec<[[f64; 3]; 4]> = [(1.0, 1.0), (-1.0, 1.0), (-1.0, -1.0), (1.0, -1.0)]
            .into_iter()
            .map(|(sx, sz): (f64, f64)| {
                let ph = phase + if sx * sz > 0.0 { 0.0 } else { std::f64::consts::PI };
                let yaw = sz.atan2(sx) - 0.45 * ph.sin() * sz;
                let lift = 0.25 * ph.cos().max(0.0);
                let hip = [o[0] + 0.2 * sx, o[1], o[2] + 0.2 * sz];
                let knee = [hip[0] + 0.27 * yaw.cos(), hip[1] + 0.05 + lift * 0.3, hip[2] + 0.27 * yaw.sin()];
                let foot =
                    [knee[0] + 0.33 * yaw.cos(), (knee[1] - 0.46 + lift * 0.6).max(0.08), knee[2] + 0.33 * yaw.sin()];
                [o, hip, knee, foot]
            })
            .collect();
        legs.iter().for_each(|l| capsule(&mut poses, l[0], l[1]));
        legs.iter().for_each(|l| {
            capsule(&mut poses, l[1], l[2]);
            capsule(&mut poses, l[2], l[3]);
        });
        readouts.push(Readout {
            time: t as f32,
            speed: (4.2 + 0.4 * phase.sin()) as f32,
            total_reward: (t * 330.0) as f32,
        });
    }
    (shapes, poses, readouts)
}

#[test]
fn the_moving_picture_holds_every_frame_in_little_room() {
    let (shapes, poses, readouts) = trot(1000);
    let movie = Movie {
        title: "Ant </script> trot",
        subtitle: "a made-up gait",
        fps: 60.0,
        shapes: &shapes,
        poses: &poses,
        readouts: &readouts,
        contact_forces: &[],
        weight: 0.0,
        notes: "",
    };
    let html = movie.html().unwrap();
    assert!(html.len() < 400_000, "{}", html.len());
    assert_eq!(html.matches("</script>").count(), 1);
    assert!(html.contains("\"frames\":1000") && !html.contains("/*MOVIE*/"));
    assert!(!html.contains("http"), "the page must need no network");
    let data = html.split("\"data\":\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(data.len(), (1000 * (24 + 13 * 14usize)).div_ceil(3) * 4);
    let nice = Movie { title: "Made-up gait", subtitle: "test picture: no physics and no policy behind it", ..movie };
    keep_file("ant.html", nice.html().unwrap());
    let picked = movie.strides(5, 1.75);
    assert_eq!(picked.len(), 5);
    let still = nice.still_svg(&picked).unwrap();
    keep_file("still.svg", &still);
    assert!(still.len() < 100_000 && still.contains("m/s") && !still.contains("NaN"));
}

/// Runs one test of this file in a process of its own, with a word that tells it to be the child.
#[cfg(unix)]
fn child(test: &str, word: &std::ffi::OsStr) -> std::process::Command {
    let mut c = std::process::Command::new(std::env::current_exe().unwrap());
    c.args(only(test)).env("PWM_TEST_CHILD", word);
    c.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    c
}

#[cfg(unix)]
#[test]
fn a_second_interrupt_ends_the_process_at_once() {
    use pwm::run::signals::StopFlag;
    use signal_hook::{consts::SIGINT, low_level::raise};
    if std::env::var_os("PWM_TEST_CHILD").is_some() {
        let stop = StopFlag::install().unwrap();
        raise(SIGINT).unwrap();
        if stop.reason() == Some("SIGINT") {
            raise(SIGINT).unwrap();
        }
        std::process::exit(3);
    }
    let status = child("a_second_interrupt_ends_the_process_at_once", "x".as_ref()).status().unwrap();
    assert_eq!(status.code(), Some(130));
}

#[cfg(unix)]
#[test]
fn a_process_killed_while_saving_leaves_a_whole_checkpoint() {
    if let Some(dir) = std::env::var_os("PWM_TEST_CHILD") {
        let path = Path::new(&dir).join("latest.safetensors");
        for i in 0u64.. {
            let big = vec![i; 40_000];
            checkpoint::save(&path, [Tensor::of("a", &[40_000], &big)], &meta()).unwrap();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("latest.safetensors");
    let mut rng = Lcg(7);
    for round in 0..20 {
        let test = "a_process_killed_while_saving_leaves_a_whole_checkpoint";
        let mut process = child(test, dir.path().as_os_str()).spawn().unwrap();
        while !path.exists() {
            assert!(process.try_wait().unwrap().is_none(), "the child ended before it saved");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        std::thread::sleep(std::time::Duration::from_micros(5_000 + rng.next() % 40_000));
        process.kill().unwrap();
        process.wait().unwrap();
        let a = Checkpoint::load(&path).unwrap().values::<u64>("a").unwrap();
        assert!(a.len() == 40_000 && a.iter().all(|&v| v == a[0]), "round {round}");
    }
    // A killed process may leave the one temporary, never more, and the next save takes it over.
    assert!(std::fs::read_dir(dir.path()).unwrap().count() <= 2);
    save_sample(&path, 0.0);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}
