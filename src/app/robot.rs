//! `pwm robot`: what a robot is made of, as a table, a picture and a page in three dimensions; of a shipped robot, of a
//! file in MuJoCo's XML, or of the one of a task.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{misused, say};
use crate::config::spec::is_robot_file;
use crate::config::{ConfigError, ConfigErrors, Shipped, ShippedKind, load};
use crate::draw::viewer::{Movie, Readout, ViewerError};
use crate::env::{Task, movie_poses, movie_shapes};
use crate::io::atomic::{FileError, replace_bytes};
use crate::sim::articulation::{Articulation, Joint};
use crate::sim::mjcf::Mjcf;
use crate::sim::{Inertia, JointKind, Model, robots};

/// What `pwm robot` can do.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum RobotCommand {
    /// Print what a robot is made of, and draw it: NAME.svg, and NAME.html, where every joint moves through its range
    Show {
        /// A shipped robot, a file in MuJoCo's XML, or the file of an environment (.yaml), then with its constants
        robot: String,
        /// The folder for the pictures
        #[arg(long, value_name = "FOLDER", default_value = ".")]
        out: PathBuf,
    },
    /// List the shipped robots
    List,
}

/// Carries the command out; `out` is standard output, or a test's buffer.
pub fn run(command: &RobotCommand, out: &mut dyn Write) -> anyhow::Result<()> {
    match command {
        RobotCommand::Show { robot, out: folder } => show(&Shown::find(robot)?, folder, out),
        RobotCommand::List => {
            for (name, build) in robots::ROBOTS {
                let robot = build().welded(Inertia::Exact);
                let (q, qd) = robot.offsets();
                let (bodies, q, qd) = (robot.bodies.len(), q[q.len() - 1], qd[qd.len() - 1]);
                let (bodies, q) = (counted(bodies, "body", "bodies"), counted(q, "coordinate", "coordinates"));
                let qd = counted(qd, "degree of freedom", "degrees of freedom");
                say(out, format_args!("{name:<12}{bodies:<12}{q:<17}{qd}"));
            }
            say(
                out,
                format_args!(
                    "\nOne of your own: a file in MuJoCo's XML (docs/MAP.md). `pwm robot show FILE.xml` shows it."
                ),
            );
            Ok(())
        }
    }
}

/// A robot to show.
struct Shown {
    /// As its pictures are called.
    name: String,
    robot: Articulation,
    inertia: Inertia,
    /// Bodies whose joint is driven, and the force of an action of 1 [N m or N].
    motors: Vec<(String, f64)>,
    start: Vec<f64>,
    /// Whether masses and inertias are those of its own file.
    from_file: bool,
    /// Whether the constants of limits are still a task's to give.
    open: bool,
}

impl Shown {
    fn find(name: &str) -> anyhow::Result<Self> {
        let path = Path::new(name);
        if is_robot_file(name) {
            let text = std::fs::read_to_string(path).map_err(FileError::at(path, "reading it"))?;
            return Self::in_file(name, &text);
        }
        if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
            let config = load(&[format!("env={name}")])?;
            let from_file = config.unread("inertia").is_some();
            let task = Task::from_config(&config)?;
            let shown = "it moves by MuJoCo's law; `pwm robot show` knows dFlex's\n  name its robot's file, FILE.xml";
            anyhow::ensure!(task.is_differentiable(), misused(format_args!("{name}: {shown}")));
            return Ok(Self { from_file, ..Self::of(task) });
        }
        let Some(robot) = robots::by_name(name) else {
            let known: Vec<&str> = robots::ROBOTS.iter().map(|(name, _)| *name).collect();
            let near = crate::config::nearest(name, known.iter().copied());
            let near = near.map_or(String::new(), |n| format!("; did you mean `{n}`?"));
            let known = crate::config::one_of(&known);
            anyhow::bail!(misused(format_args!(
                "there is no robot `{name}`{near}\n  shipped: {known}; one of your own is a path ending in .xml"
            )));
        };
        // As a task starts it, where one does.
        let mut tasks = Shipped::names(ShippedKind::Env).into_iter().filter_map(|env| {
            let task = Task::from_config(&load(&[format!("env={env}")]).ok()?).ok()?;
            (task.is_differentiable() && task.spec.robot.name == robot.name).then_some(task)
        });
        Ok(match tasks.next() {
            Some(task) => Self { name: robot.name, ..Self::of(task) },
            None => {
                let robot = robot.welded(Inertia::Exact);
                Self {
                    name: robot.name.clone(),
                    start: rest(&robot),
                    robot,
                    inertia: Inertia::Exact,
                    motors: vec![],
                    from_file: false,
                    open: false,
                }
            }
        })
    }

    fn of(task: Task) -> Self {
        let law = task.dflex().spec.clone();
        let spec = task.spec;
        let (_, qd) = spec.robot.offsets();
        let driven = |dof| spec.robot.bodies.iter().enumerate().find(|(i, _)| (qd[*i]..qd[*i + 1]).contains(&dof));
        let motors = law.drives.iter().filter_map(|d| Some((driven(d.dof)?.1.name.clone(), d.gain))).collect();
        let (inertia, start) = (law.inertia, law.reset.start);
        Self { name: spec.name, robot: spec.robot, inertia, motors, start, from_file: false, open: false }
    }

    fn in_file(file: &str, text: &str) -> anyhow::Result<Self> {
        let lowered = Mjcf::read(file, text).and_then(|m| m.lower()).map_err(|e| {
            let (place, message) = (e.location(), e.message);
            ConfigErrors::from(ConfigError::Syntax { place, message })
        })?;
        let sound = lowered.robot.validate();
        sound.map_err(|e| misused(format_args!("{file}: this robot cannot be simulated: {e:#}")))?;
        let stem = Path::new(file).file_stem().map_or_else(|| file.into(), |s| s.to_string_lossy().into_owned());
        let (robot, motors, start) = (lowered.robot, lowered.motors, lowered.start);
        let motors = motors.into_iter().map(|m| (m.body, m.gain)).collect();
        Ok(Self { name: stem, robot, inertia: Inertia::Exact, motors, start, from_file: true, open: true })
    }
}

/// Coordinates of joints that have not moved.
fn rest(robot: &Articulation) -> Vec<f64> {
    let each = |kind| match kind {
        JointKind::Free => vec![0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0],
        JointKind::Ball => vec![0.0, 0.0, 0.0, 1.0],
        JointKind::Hinge | JointKind::Slide => vec![0.0],
        JointKind::Fixed => vec![],
    };
    robot.bodies.iter().flat_map(|b| each(b.joint.kind)).collect()
}

fn show(shown: &Shown, folder: &Path, out: &mut dyn Write) -> anyhow::Result<()> {
    let (title, notes) = (headline(shown), table(shown));
    say(out, format_args!("{}: {title}\n\n{notes}", shown.robot.name));
    std::fs::create_dir_all(folder).map_err(FileError::at(folder, "creating the folder"))?;
    let (svg, html) = match pictures(shown, &title, &notes) {
        // A robot may be without shapes.
        Err(ViewerError::Empty) => {
            say(out, format_args!("there is nothing to draw: no body has a shape"));
            return Ok(());
        }
        drawn => drawn?,
    };
    for (ending, text) in [("svg", svg), ("html", html)] {
        let file = folder.join(format!("{}.{ending}", shown.name));
        replace_bytes(&file, text.as_bytes())?;
        let what = if ending == "svg" { "picture  " } else { "page     " };
        say(out, format_args!("{what}{}", file.display()));
    }
    Ok(())
}

fn headline(shown: &Shown) -> String {
    let robot = &shown.robot;
    let (q, qd) = robot.offsets();
    let mass: f64 = robot.bodies.iter().map(|b| b.mass_properties(shown.inertia).mass).sum();
    let ground = match robot.contact_points().len() {
        0 => "touches no ground".to_owned(),
        1 => "1 point that touches the ground".to_owned(),
        n => format!("{n} points that touch the ground"),
    };
    format!(
        "{}, {} kg, {}, {}, {ground}",
        counted(robot.bodies.len(), "body", "bodies"),
        number(mass),
        counted(q[q.len() - 1], "coordinate", "coordinates"),
        counted(qd[qd.len() - 1], "degree of freedom", "degrees of freedom")
    )
}

fn counted(n: usize, one: &str, more: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { more })
}

/// Six digits, without zeros at the end.
fn number(x: f64) -> String {
    if x == 0.0 {
        return "0".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf" } else { "-inf" }.into();
    }
    let digits = (5 - x.abs().log10().floor() as i32).max(0);
    if digits > 12 {
        return format!("{x:.3e}");
    }
    let text = format!("{x:.*}", digits as usize);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
}

fn vector(x: &[f64]) -> String {
    // What is left of turning frames is no number to read.
    x.iter().map(|x| number(if x.abs() < 1e-12 { 0.0 } else { *x })).collect::<Vec<_>>().join(" ")
}

/// Rows of cells as lines of text, columns aligned.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let wide = |k: usize| rows.iter().filter_map(|r| r.get(k)).map(|c| c.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(wide).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(c, &w)| format!("{c:<w$}")).collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn range(j: &Joint) -> String {
    match (j.lower, j.upper) {
        (f64::NEG_INFINITY, f64::INFINITY) => "-".into(),
        (lower, upper) => format!("{} to {}", number(lower), number(upper)),
    }
}

/// Two tables: the joints, and the masses.
fn table(shown: &Shown) -> String {
    let robot = &shown.robot;
    let head = |cells: &[&str]| cells.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>();
    let mut joints = vec![head(&[
        "body",
        "on",
        "joint",
        "axis",
        "range",
        "damping",
        "stiffness",
        "armature",
        "at limits: spring, damping",
        "motor",
    ])];
    let mut masses = vec![head(&["body", "mass", "centre of mass", "inertia xx yy zz", "xy xz yz", "shapes"])];
    for body in &robot.bodies {
        let j = &body.joint;
        let simple = matches!(j.kind, JointKind::Hinge | JointKind::Slide);
        let kind = match j.kind {
            JointKind::Free => "free",
            JointKind::Ball => "ball",
            JointKind::Hinge => "hinge",
            JointKind::Slide => "slide",
            JointKind::Fixed => "fixed",
        };
        let spring = match (j.drive_stiffness, j.target) {
            (k, target) if k == 0.0 || target == 0.0 => number(k),
            (k, target) => format!("{} about {}", number(k), number(target)),
        };
        let motors: Vec<String> =
            shown.motors.iter().filter(|(of, _)| *of == body.name).map(|(_, gain)| number(*gain)).collect();
        joints.push(vec![
            body.name.clone(),
            body.parent.map_or("the world".into(), |p| robot.bodies[p].name.clone()),
            kind.into(),
            if simple { vector(&j.axis.array()) } else { "-".into() },
            range(j),
            number(j.drive_damping),
            spring,
            number(j.armature),
            if range(j) == "-" {
                "-".into()
            } else if shown.open {
                "the task's".into()
            } else {
                format!("{}, {}", number(j.limit_stiffness), number(j.limit_damping))
            },
            if motors.is_empty() { "-".into() } else { motors.join(" ") },
        ]);
        let m = body.mass_properties(shown.inertia);
        let [[xx, xy, xz], [_, yy, yz], [_, _, zz]] = m.inertia;
        masses.push(vec![
            body.name.clone(),
            number(m.mass),
            vector(&m.com.array()),
            vector(&[xx, yy, zz]),
            vector(&[xy, xz, yz]),
            body.shapes.len().to_string(),
        ]);
    }
    let kind = match shown.inertia {
        _ if shown.from_file => ", from the file",
        Inertia::Exact => ", of the solids drawn (inertia=exact)",
        Inertia::Reference => ", as published (inertia=reference)",
    };
    format!(
        "{}\n{}\nkg, m, rad, N, N m; frames are those of the bodies at rest, inertias about the centre of mass{kind}\n",
        aligned(&joints),
        aligned(&masses)
    )
}

/// Frames a second of the page, and frames in which a joint goes through its range.
const FPS: usize = 30;
const SWEEP: usize = 40;

/// The coordinates of every frame: from the start each hinge and each slide goes to its lower end, its upper end and
/// back, one after the other.
fn sweeps(robot: &Articulation, start: &[f64]) -> Vec<Vec<f64>> {
    let mut frames = vec![start.to_vec(); FPS / 3];
    let (q, _) = robot.offsets();
    for (body, &at) in robot.bodies.iter().zip(&q) {
        let j = &body.joint;
        // Without limits, so far as to be seen.
        let far = match j.kind {
            JointKind::Hinge => std::f64::consts::FRAC_PI_4,
            JointKind::Slide => 0.3,
            _ => continue,
        };
        let here = start[at];
        let lower = if j.lower.is_finite() { j.lower } else { here - far };
        let upper = if j.upper.is_finite() { j.upper } else { here + far };
        let stops = [here, lower, upper, here];
        for k in 1..=SWEEP {
            let along = 3.0 * k as f64 / SWEEP as f64;
            let leg = (along.floor() as usize).min(2);
            let mut frame = start.to_vec();
            frame[at] = stops[leg] + (stops[leg + 1] - stops[leg]) * (along - leg as f64);
            frames.push(frame);
        }
    }
    frames
}

/// The picture and the page.
fn pictures(shown: &Shown, title: &str, notes: &str) -> Result<(String, String), ViewerError> {
    let model = Model::<f64>::new(&shown.robot, shown.inertia);
    let frames = sweeps(&shown.robot, &shown.start);
    let shapes = movie_shapes(&shown.robot);
    let poses: Vec<f32> = frames.iter().flat_map(|q| movie_poses(&shown.robot, &model, q)).collect();
    let readouts: Vec<Readout> =
        (0..frames.len()).map(|f| Readout { time: f as f32 / FPS as f32, ..Readout::default() }).collect();
    let movie = Movie {
        title: &shown.name,
        subtitle: title,
        fps: FPS as f32,
        shapes: &shapes,
        poses: &poses,
        readouts: &readouts,
        contact_forces: &[],
        weight: 0.0,
        notes,
    };
    Ok((movie.still_svg(&[0])?, movie.html()?))
}
