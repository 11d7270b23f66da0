//! Robots from MuJoCo's XML: what a file says, what the law makes of it, and what is refused, with its line.

use crate::support::mjcf::{BEAST, BEAST_TASK, LEG, LEG_TASK, RUNNER, WALKER, write};
use pwm::app::gradcheck::{self, GradcheckArgs};
use pwm::config::load;
use pwm::env::Task;
use pwm::sim::articulation::{Articulation, Body, Geometry};
use pwm::sim::mass_matrix::mass_matrix;
use pwm::sim::mjcf::mass::principal;
use pwm::sim::mjcf::{Lowered, Mjcf};
use pwm::sim::robots::by_name;
use pwm::sim::{Inertia, JointKind, Model, Quat, Vec3, Work};
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_PI_2, PI};

fn lower(text: &str) -> Lowered {
    Mjcf::read("my.xml", text).and_then(|m| m.lower()).unwrap_or_else(|e| panic!("{e}"))
}

/// A file with this in its world.
fn world(inside: &str) -> String {
    format!("<mujoco>\n<worldbody>\n{inside}\n</worldbody>\n</mujoco>")
}

/// What becomes of one body on a hinge with this inside it.
fn on_hinge(inside: &str) -> Body {
    lower(&world(&format!("<body name=\"b\"><joint/>{inside}</body>"))).robot.bodies.remove(0)
}

fn close(got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    let far = got.iter().zip(want).position(|(a, b)| {
        let is_near = a == b || (a - b).abs() <= tolerance * b.abs().max(1.0);
        !is_near
    });
    assert_eq!(far, None, "{got:?}\n{want:?}");
}

/// Every number of a compiled robot.
fn numbers(m: &Model<f64>) -> Vec<f64> {
    let mut all = m.armature.clone();
    all.extend(m.gravity.array());
    for l in &m.links {
        let q = l.rotation.unwrap_or(Quat::identity());
        all.extend([l.parent.map_or(-1.0, |p| p as f64), l.kind as u8 as f64, l.q as f64, l.qd as f64]);
        all.extend(l.position.array().into_iter().chain(q.v.array()).chain([q.w]).chain(l.axis.array()));
        all.extend([l.lower, l.upper, l.limit_stiffness, l.drive_stiffness, l.target, l.damping, l.mass]);
        all.extend(l.com.array().into_iter().chain(l.inertia.0.iter().flat_map(|r| r.array())));
        all.push(l.contacts.len() as f64);
    }
    for c in &m.contacts {
        all.extend(c.point.array());
        all.extend([c.radius, c.stiffness, c.damping, c.viscosity, c.friction_stiffness]);
    }
    all
}

#[test]
fn a_file_of_the_shipped_robot_is_the_shipped_robot() {
    let dir = tempfile::tempdir().unwrap();
    let own = Task::from_config(&load(&[write(dir.path(), "leg", LEG, LEG_TASK)]).unwrap()).unwrap();
    let shipped = Task::from_config(&load(&["env=hopper", "inertia=exact"]).unwrap()).unwrap();
    let mut robot = by_name("hopper").unwrap();
    // The published file rounds the quaternion of its foot, and the published law does not mind.
    let turn = &mut robot.bodies[5].shapes[0].frame.q;
    *turn = turn.normalised();
    close(&numbers(own.dflex().model()), &numbers(&Model::new(&robot, Inertia::Exact)), 1e-12);
    let names = |r: &Articulation| r.bodies.iter().map(|b| b.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&own.spec.robot), names(&robot));
    // Motors stand in the order of their joints, whatever that of the file.
    assert_eq!(own.dflex().spec.drives, shipped.dflex().spec.drives);
    assert_eq!(
        (own.sizes, &own.dflex().spec.reset, &own.dflex().spec.terms),
        (shipped.sizes, &shipped.dflex().spec.reset, &shipped.dflex().spec.terms)
    );
    assert_eq!(own.dflex().model().rail, Some(0));
}

/// Every stage and the whole step against dual numbers and differences, as the command does it.
#[test]
fn the_gradient_of_a_task_on_a_file_is_its_derivative() {
    let dir = tempfile::tempdir().unwrap();
    for (name, xml, text) in [("leg", LEG, LEG_TASK), ("beast", BEAST, BEAST_TASK)] {
        let overrides = vec![write(dir.path(), name, xml, text)];
        let args = GradcheckArgs { overrides, states: 16, state: vec![], file: None, horizon: 2 };
        let mut out = vec![];
        gradcheck::run(&args, &mut out).unwrap_or_else(|e| panic!("{name}: {e}\n{}", String::from_utf8_lossy(&out)));
    }
}

#[test]
fn every_kind_of_joint_is_in_its_place() {
    let l = lower(BEAST);
    let r = &l.robot;
    r.validate().unwrap();
    let names: Vec<&str> = r.bodies.iter().map(|b| b.name.as_str()).collect();
    // The hand is part of the arm; all joints but the last of a body become bodies of their names.
    assert_eq!(names, ["trunk", "arm", "swing", "leg", "push", "foot"]);
    use JointKind::{Ball, Free, Hinge, Slide};
    assert_eq!(r.bodies.iter().map(|b| b.joint.kind).collect::<Vec<_>>(), [Free, Ball, Hinge, Hinge, Slide, Hinge]);
    assert_eq!(
        r.bodies.iter().map(|b| b.parent).collect::<Vec<_>>(),
        [None, Some(0), Some(0), Some(2), Some(3), Some(4)]
    );
    assert_eq!(r.gravity, [0.0, -9.8, -0.0]);
    // The free root starts at its pose, turned y up: z of the file is y of the world.
    let up = Quat::of([l.start[3], l.start[4], l.start[5], l.start[6]]);
    close(&l.start[..3], &[0.0, 0.6, 0.0], 1e-15);
    let (s, c) = 10f64.to_radians().sin_cos();
    close(&up.rotate(Vec3::new(0.0, 0.0, 1.0)).array(), &[s, c, 0.0], 1e-15);
    close(&l.start[7..], &[0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.02, (-20f64).to_radians()], 1e-15);
    let joint = |i: usize| &r.bodies[i].joint;
    // Anchors are where joint frames are; contents are shifted against them.
    close(&joint(1).frame.p.array(), &[0.1, 0.1, 0.01], 1e-15);
    close(&r.bodies[1].shapes[0].contact_points()[0].0.array(), &[0.0, 0.05, -0.01], 1e-15);
    let turn = Quat::about(Vec3::new(0.0, 1.0, 0.0), 15f64.to_radians());
    let place = turn.rotate(Vec3::new(0.0, 0.0, 0.02)) + Vec3::new(-0.15, 0.0, -0.05);
    close(&joint(2).frame.p.array(), &place.array(), 1e-15);
    close(&joint(3).frame.p.array(), &[0.01, 0.0, -0.02], 1e-15);
    close(&joint(4).frame.p.array(), &[-0.01, -0.002 / 1.01f64.sqrt(), -0.3 + 0.02 / 1.01f64.sqrt()], 1e-15);
    close(&[joint(5).frame.q.v.y], &[10f64.to_radians().sin()], 1e-15);
    close(&[joint(2).lower, joint(2).upper], &[(-30f64).to_radians(), 40f64.to_radians()], 1e-15);
    close(&[joint(4).lower, joint(4).upper, joint(3).target], &[-0.05, 0.1, 10f64.to_radians()], 1e-15);
    assert_eq!((joint(3).drive_stiffness, joint(3).drive_damping, joint(3).armature), (3.0, 0.5, 0.02));
    let gains: Vec<(&str, f64)> = l.motors.iter().map(|m| (m.body.as_str(), m.gain)).collect();
    assert_eq!(gains, [("swing", 10.0), ("leg", 15.0), ("push", -40.0), ("foot", 6.0)]);
    // Friction is the larger of the two; the hand touches nothing.
    let frictions = |i: usize| r.bodies[i].shapes.iter().map(|s| (s.touches, s.material.friction)).collect::<Vec<_>>();
    assert_eq!(frictions(0), [(true, 1.0), (true, 0.9)]);
    assert_eq!(frictions(1), [(true, 1.0), (false, 0.0)]);
    assert_eq!(r.contact_points().len(), 8 + 1 + 2 + 2 + 8);
    let m = r.bodies[3].inertial.unwrap();
    close(&m.com.array(), &[-0.01, 0.0, -0.15], 1e-15);
    assert_eq!((m.mass, m.inertia[0]), (1.2, [0.02, 0.001, 0.0]));
}

/// Masses by hand.
#[test]
fn masses_and_inertias() {
    let of = |inside: &str| on_hinge(inside).inertial.unwrap();
    let diagonal = |m: [[f64; 3]; 3]| [m[0][0], m[1][1], m[2][2]];
    let m = of("<geom size=\"0.1\"/>");
    let mass = 4000.0 / 3.0 * PI * 1e-3;
    close(&[m.mass], &[mass], 1e-14);
    close(&diagonal(m.inertia), &[0.004 * mass; 3], 1e-14);

    let m = of("<geom type=\"box\" size=\"0.1 0.2 0.3\" mass=\"3\"/>");
    close(&diagonal(m.inertia), &[0.04 + 0.09, 0.01 + 0.09, 0.01 + 0.04], 1e-14);

    // A capsule of radius 1 and half length 1 along z: a cylinder of 2 π and a sphere of 4/3 π, density 3/π.
    let density = 3.0 / PI;
    let m = of(&format!("<geom type=\"capsule\" size=\"1 1\" density=\"{density}\"/>"));
    let across = 6.0 * (3.0 + 4.0) / 12.0 + 4.0 * (0.4 + 1.0 + 0.375 * 2.0);
    close(&[m.mass], &[10.0], 1e-14);
    close(&diagonal(m.inertia), &[across, across, 3.0 + 1.6], 1e-14);
    // The same along x, by its ends.
    let m = of(&format!("<geom type=\"capsule\" fromto=\"-1 0 0 1 0 0\" size=\"1\" density=\"{density}\"/>"));
    close(&diagonal(m.inertia), &[4.6, across, across], 1e-14);

    // Two balls of 1 and 3 kg, 2 m apart along y.
    let two = "<geom size=\"0.1\" mass=\"1\"/><geom size=\"0.1\" mass=\"3\" pos=\"0 2 0\"/>";
    let m = of(two);
    let own = 0.4 * 0.01 * 4.0;
    close(&m.com.array(), &[0.0, 1.5, 0.0], 1e-14);
    close(&diagonal(m.inertia), &[own + 3.0, own, own + 3.0], 1e-14);
    // A rod turned by 45 degrees about y has products of inertia: I_xz = (I_zz - I_xx)/2 of its own.
    let m = of("<geom type=\"box\" size=\"0.1 0.1 0.5\" euler=\"0 45 0\" mass=\"3\"/>");
    let (long, short) = (0.02, 0.26);
    close(&[m.inertia[0][0], m.inertia[2][2], m.inertia[0][2]], &[0.14, 0.14, (long - short) / 2.0], 1e-14);

    // An inertial wins over geoms, unless those are asked for.
    let inertial = "<inertial pos=\"0 0 1\" quat=\"0.7071067811865476 0 0 0.7071067811865476\" mass=\"2\" \
                    diaginertia=\"1 2 2.5\"/><geom size=\"0.1\"/>";
    let m = of(inertial);
    close(&[m.mass, m.com.z], &[2.0, 1.0], 1e-14);
    close(&diagonal(m.inertia), &[2.0, 1.0, 2.5], 1e-14);
    let file = |compiler: &str, inside: &str| {
        let text =
            format!("<mujoco><compiler {compiler}/><worldbody><body><joint/>{inside}</body></worldbody></mujoco>");
        lower(&text).robot.bodies[0].inertial.unwrap()
    };
    close(&[file("inertiafromgeom=\"true\"", inertial).mass], &[mass], 1e-14);
    let m = file("settotalmass=\"8\"", two);
    close(&[m.mass, m.inertia[1][1]], &[8.0, 2.0 * own], 1e-14);
    // Geoms of other groups only look.
    let groups = "<geom size=\"0.1\" mass=\"1\" group=\"3\"/><geom size=\"0.1\" mass=\"5\"/>";
    assert_eq!(file("inertiagrouprange=\"0 2\"", groups).mass, 5.0);
    let m = file("boundmass=\"0.5\" boundinertia=\"0.01\"", "<geom size=\"0.1\" mass=\"0.001\"/>");
    close(&[m.mass, m.inertia[0][0]], &[0.5, 0.01], 1e-14);
    let m = file("balanceinertia=\"true\"", "<inertial pos=\"0 0 0\" mass=\"1\" diaginertia=\"1 1 7\"/>");
    close(&diagonal(m.inertia), &[3.0; 3], 1e-14);
    // Massless bodies may be, where a joint has an armature.
    let chain = "<body name=\"a\"><joint armature=\"1\"/><body name=\"b\"><joint/><geom size=\"0.1\"/></body></body>";
    assert_eq!(lower(&world(chain)).robot.bodies[0].inertial.unwrap().mass, 0.0);
}

#[test]
fn principal_moments_are_those_of_the_tensor() {
    let a = [[2.0, 0.3, -0.1], [0.3, 1.5, 0.2], [-0.1, 0.2, 0.9]];
    let (moments, axes) = principal(a);
    for (k, moment) in moments.into_iter().enumerate() {
        let v = axes.column(k);
        let av = a.map(|row| Vec3::<f64>::of(row).dot(v));
        close(&av, &v.scale(moment).array(), 1e-14);
    }
}

/// Each way to turn a body, against where it takes the axes.
#[test]
fn orientations() {
    let turned = |compiler: &str, how: &str| {
        let text = format!(
            "<mujoco><compiler {compiler}/><worldbody><body name=\"a\"><joint/><geom size=\"1\"/><body name=\"b\" {how}>\
             <joint/><geom size=\"1\"/></body></body></worldbody></mujoco>"
        );
        let q = lower(&text).robot.bodies[1].joint.frame.q;
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]].map(|a| q.rotate(Vec3::of(a)).array()).concat()
    };
    // A quarter turn about z.
    let quarter = [0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0];
    for (compiler, how) in [
        ("", "quat=\"1 0 0 1\""),
        ("", "axisangle=\"0 0 2 90\""),
        ("angle=\"radian\"", "axisangle=\"0 0 2 1.5707963267948966\""),
        ("", "euler=\"0 0 90\""),
        ("", "xyaxes=\"0 2 0 -1 1 0\""),
        ("eulerseq=\"zyx\"", "euler=\"90 0 0\""),
    ] {
        close(&turned(compiler, how), &quarter, 1e-15);
    }
    // About the moving x by 90, then about the moving y by 90: z goes to x; of the axes that stay, z goes to -y.
    close(&turned("", "euler=\"90 90 0\"")[6..], &[1.0, 0.0, 0.0], 1e-15);
    close(&turned("eulerseq=\"XYZ\"", "euler=\"90 90 0\"")[6..], &[0.0, -1.0, 0.0], 1e-15);
    close(&turned("", "zaxis=\"0 3 3\"")[6..], &[0.0, FRAC_1_SQRT_2, FRAC_1_SQRT_2], 1e-15);
    close(&turned("", "zaxis=\"0 0 -1\"")[6..], &[0.0, 0.0, -1.0], 1e-15);
}

/// Nested classes inherit, a child class holds for all below, what is written wins; short lists change the first
/// numbers only.
#[test]
fn default_classes() {
    let text = r#"<mujoco>
  <compiler angle="radian"/>
  <default>
    <joint damping="1" armature="2" range="-1 1"/>
    <geom size="0.1 0.2 0.3" contype="0" conaffinity="0"/>
    <default class="a"><joint damping="3"/><geom type="box"/>
      <default class="b"><joint armature="4"/><geom size="0.7"/></default>
    </default>
    <default class="c"><joint limited="false"/></default>
  </default>
  <worldbody>
    <body name="1"><joint/><geom/>
      <body name="2" childclass="b"><joint/><geom/>
        <body name="3"><joint class="c"/><geom class="main" type="capsule"/>
          <body name="4" childclass="a"><joint damping="9"/><geom/></body>
        </body>
      </body>
    </body>
  </worldbody>
</mujoco>"#;
    let r = lower(text).robot;
    let joints: Vec<_> = r.bodies.iter().map(|b| (b.joint.drive_damping, b.joint.armature, b.joint.upper)).collect();
    assert_eq!(joints, [(1.0, 2.0, 1.0), (3.0, 4.0, 1.0), (1.0, 2.0, f64::INFINITY), (9.0, 2.0, 1.0)]);
    let shapes: Vec<_> = r.bodies.iter().map(|b| b.shapes[0].geometry).collect();
    let (capsule, cube) =
        (Geometry::Capsule { radius: 0.1, half_length: 0.2 }, Geometry::Box { half: [0.7, 0.2, 0.3] });
    let a = Geometry::Box { half: [0.1, 0.2, 0.3] };
    assert_eq!(shapes, [Geometry::Sphere { radius: 0.1 }, cube, capsule, a]);
}

#[test]
fn what_is_switched_off_does_not_act() {
    let with = |option: &str| {
        let text = format!(
            "<mujoco><option {option}<worldbody><geom type=\"plane\" size=\"1 1 1\"/><body pos=\"0 0 1\"><joint name=\"j\" \
             range=\"-1 1\" stiffness=\"2\" damping=\"3\"/><geom size=\"0.1\"/></body></worldbody><actuator><motor \
             joint=\"j\"/></actuator></mujoco>"
        );
        lower(&text)
    };
    let flag = |name: &str| with(&format!("><flag {name}=\"disable\"/></option>"));
    let plain = with("/>");
    let joint = |l: &Lowered| l.robot.bodies[0].joint;
    assert_eq!((plain.robot.ground, plain.robot.gravity[1], plain.motors.len()), (true, -9.81, 1));
    assert_eq!((joint(&plain).drive_stiffness, joint(&plain).drive_damping), (2.0, 3.0));
    assert_eq!(flag("gravity").robot.gravity, [0.0, 0.0, -0.0]);
    assert!(!flag("contact").robot.ground && !flag("constraint").robot.ground);
    assert_eq!([joint(&flag("limit")).upper, joint(&flag("constraint")).upper], [f64::INFINITY; 2]);
    assert_eq!((joint(&flag("passive")).drive_stiffness, joint(&flag("passive")).drive_damping), (0.0, 0.0));
    assert_eq!((joint(&flag("spring")).drive_stiffness, joint(&flag("spring")).drive_damping), (0.0, 3.0));
    assert!(flag("actuation").motors.is_empty());
    assert_eq!(with("gravity=\"1 2 3\"/>").robot.gravity, [1.0, 3.0, -2.0]);
    assert_eq!(with("timestep=\"0.01\"/>").timestep.unwrap().value, 0.01);
}

/// Geoms that touch each other would be refused: what keeps them apart.
#[test]
fn who_touches_whom() {
    let two = |a: &str, b: &str, more: &str| {
        let text = format!(
            "<mujoco><worldbody><geom type=\"plane\" size=\"1 1 1\" name=\"f\"/><body name=\"a\"><joint/><geom size=\"0.1\" \
             {a}/></body><body name=\"b\"><joint/><geom size=\"0.1\" {b}/></body></worldbody>{more}</mujoco>"
        );
        Mjcf::read("my.xml", &text).and_then(|m| m.lower()).map(|l| l.robot.contact_points().len())
    };
    assert!(two("", "", "").unwrap_err().message.contains("may touch the sphere"));
    let own = "contype=\"1\" conaffinity=\"0\"";
    assert_eq!(two(own, own, ""), Ok(2));
    assert_eq!(two("contype=\"0\" conaffinity=\"0\"", "", ""), Ok(1));
    assert!(two("contype=\"2\" conaffinity=\"1\"", "contype=\"1\" conaffinity=\"4\"", "").is_err());
    assert_eq!(two("", "", "<contact><exclude body1=\"a\" body2=\"b\"/></contact>"), Ok(2));
    // A parent and its child do not touch; a grandchild does.
    let chain = |depth: usize| {
        let open: String = (0..depth).map(|i| format!("<body name=\"{i}\"><joint/><geom size=\"0.1\"/>")).collect();
        Mjcf::read("my.xml", &world(&(open + &"</body>".repeat(depth)))).unwrap().lower().is_ok()
    };
    assert!(chain(2) && !chain(3));
    // A contact without friction.
    let text = world(
        "<geom type=\"plane\" size=\"1 1 1\" condim=\"1\" priority=\"1\"/><body><joint/><geom size=\"0.1\"/></body>",
    );
    assert_eq!(lower(&text).robot.bodies[0].shapes[0].material.friction, 0.0);
}

/// A body on a hinge between two lines that may go wrong: the world's and the file's. The mistake stands in line 7, or
/// where `#` is.
const FRAME: &str = "<mujoco>
OPTION
  <worldbody>
    <geom type=\"plane\" size=\"1 1 1\" contype=\"0\"/>
    <body name=\"a\" pos=\"0 0 1\">
      <joint name=\"j\" damping=\"1\"/>
INSIDE
      <geom size=\"0.1\" conaffinity=\"0\"/>
    </body>
WORLD
  </worldbody>
AFTER
</mujoco>";

#[test]
fn what_the_law_cannot_represent_is_refused_with_its_line() {
    let body = |joint: &str| format!("<body name=\"c\">{joint}<geom size=\"0.1\" contype=\"0\"/></body>");
    let j = |joint: &str| ("INSIDE", 7, body(joint));
    let g = |geom: &str| ("INSIDE", 7, geom.to_owned());
    let o = |option: &str| ("OPTION", 2, format!("<option {option}/>"));
    let a = |actuator: &str| ("AFTER", 12, format!("<actuator>{actuator}</actuator>"));
    let w = |inside: &str| ("WORLD", 10, inside.to_owned());
    let f = |after: &str| ("AFTER", 12, after.to_owned());
    let c = |compiler: &str| ("OPTION", 2, format!("<compiler {compiler}/>"));
    for ((slot, line, text), expected) in [
        // What is no file of the kind.
        (g("<geom size=\"0.1\""), "this is no XML"),
        (g("<geom size=\"0.1\" colour=\"1\"/>"), "`geom` has no attribute `colour`"),
        (g("<geom siz=\"0.1\"/>"), "did you mean `size`?"),
        (g("<geometry/>"), "there is no element `geometry` in `body`"),
        (j("<joint><geom/></joint>"), "there is no element `geom` in `joint`"),
        (g("<geom type=\"sphere\" size=\"0.1\" fromto=\"0 0 0 0 0 1\"/>"), "a sphere has no two ends"),
        (g("words"), "text has no meaning in `body`"),
        (f("<equalities/>"), "did you mean `equality`?"),
        (f("<include file=\"x.xml\"/>"), "`include` cannot be read"),
        (f("<extension/>"), "`extension` cannot be read"),
        (g("<composite type=\"cable\"/>"), "`composite` cannot be read"),
        (g("<frame/>"), "`frame` cannot be read"),
        (g("<geom size=\"0.1 x\"/>"), "\"x\" is no number"),
        (g("<geom size=\"nan\"/>"), "is no number"),
        (g("<geom size=\"0\" contype=\"0\"/>"), "the size of a sphere is a number above 0"),
        (g("<geom type=\"capsule\" size=\"0.1\"/>"), "the size of a capsule is 2 numbers above 0"),
        (g("<geom type=\"ball\" size=\"0.1\"/>"), "`type` cannot be \"ball\""),
        (g("<geom size=\"0.1\" quat=\"0 0 0 0\"/>"), "`quat` has no direction"),
        (g("<geom size=\"0.1\" quat=\"1 0 0 0\" euler=\"0 0 0\"/>"), "the orientation is given twice"),
        (g("<geom size=\"0.1\" pos=\"0 0\"/>"), "`pos` has 2 numbers\n  give 3"),
        (g("<geom size=\"0.1\" mass=\"-1\"/>"), "`mass` is not negative"),
        (g("<geom size=\"0.1\" class=\"x\"/>"), "there is no default class `x`"),
        (g("<geom type=\"capsule\" size=\"0.1\" fromto=\"0 0 1 0 0 1\"/>"), "the two ends are one point"),
        (j("<joint axis=\"0 0 0\"/>"), "`axis` has no direction"),
        (j("<joint name=\"j\"/>"), "there are two joints `j`"),
        (j("<joint limited=\"true\"/>"), "needs a `range`"),
        (j("<joint range=\"1 -1\"/>"), "`range` ends before it begins"),
        (c("coordinate=\"global\""), "global coordinates cannot be read"),
        (c("eulerseq=\"xyw\""), "`eulerseq` is three letters"),
        (w("<body name=\"a\"/>"), "there are two bodies `a`"),
        (("OPTION", 2, "<default><geom colour=\"1\"/></default>".into()), "`geom` has no attribute `colour`"),
        (("OPTION", 2, "<default><default/></default>".into()), "a class inside another needs a name"),
        // What the law does not have.
        (o("density=\"1.2\""), "there is no medium"),
        (o("viscosity=\"1\""), "there is no medium"),
        (o("wind=\"1 0 0\""), "there is no medium"),
        (o("integrator=\"RK4\""), "integrated by Euler's symplectic method alone"),
        (o("cone=\"pyramidal\""), "friction is the same in all directions"),
        (o("impratio=\"10\""), "`impratio`"),
        (o("timestep=\"0\""), "`timestep` is more than 0"),
        (("OPTION", 2, "<option><flag clampctrl=\"disable\"/></option>".into()), "actions are cut"),
        (("OPTION", 2, "<option><flag override=\"enable\"/></option>".into()), "leave the override out"),
        (f("<equality><weld body1=\"a\"/></equality>"), "`weld`: this law has no equality constraints"),
        (f("<contact><pair geom1=\"x\" geom2=\"y\"/></contact>"), "`pair`:"),
        (f("<contact><exclude body1=\"a\" body2=\"x\"/></contact>"), "there is no body `x`"),
        (
            f("<tendon><fixed stiffness=\"1\"><joint joint=\"j\" coef=\"1\"/></fixed></tendon>"),
            "this law has no tendons",
        ),
        (g("<geom type=\"cylinder\" size=\"0.1 0.1\"/>"), "a cylinder that touches the ground cannot be represented"),
        (
            g("<geom type=\"ellipsoid\" size=\"0.1 0.1 0.1\" contype=\"0\" conaffinity=\"0\"/>"),
            "an ellipsoid that weighs",
        ),
        (g("<geom type=\"mesh\" mesh=\"x\" contype=\"0\" conaffinity=\"0\"/>"), "the mass of a mesh is not known"),
        (g("<geom type=\"mesh\" mesh=\"x\" mass=\"1\"/>"), "mesh"),
        (w("<geom size=\"0.1\"/>"), "this sphere may touch the sphere of line 8"),
        (w("<geom type=\"plane\" size=\"1 1 1\" pos=\"0 0 0.1\"/>"), "there is a ground already, in line 4"),
        (g("<geom size=\"0.1\" solref=\"0.02 1\"/>"), "`solref`: the constants of contact are keys of the task"),
        (g("<geom size=\"0.1\" margin=\"0.01\"/>"), "`margin`: contact begins at the surface"),
        (g("<geom size=\"0.1\" condim=\"4\"/>"), "does not resist turning"),
        (g("<geom size=\"0.1\" shellinertia=\"true\"/>"), "the mass of a shell is not known"),
        (g("<inertial pos=\"0 0 0\" mass=\"1\" diaginertia=\"1 1 3\"/>"), "no solid has this inertia"),
        (g("<inertial pos=\"0 0 0\" mass=\"1\"/>"), "`inertial` has no `diaginertia`"),
        (j("<joint frictionloss=\"0.1\"/>"), "there is no dry friction"),
        (j("<joint springdamper=\"0.1 1\"/>"), "do not follow from time constants"),
        (j("<joint range=\"-1 1\" solreflimit=\"0.1 1\"/>"), "`solreflimit`: limits are springs here"),
        (j("<joint range=\"-1 1\" margin=\"0.1\"/>"), "a limit begins at its range"),
        (j("<joint actuatorfrcrange=\"-1 1\"/>"), "forces of motors are not cut"),
        (j("<joint type=\"ball\" range=\"0 30\"/>"), "a ball joint has no limits"),
        (j("<joint type=\"ball\" stiffness=\"1\"/>"), "a ball joint has no spring"),
        (j("<freejoint/>"), "a free joint is the only one of a body that hangs on the world"),
        (
            w("<body><joint type=\"free\" damping=\"1\"/><geom size=\"1\" contype=\"0\" conaffinity=\"0\"/></body>"),
            "a free joint has no damping",
        ),
        (w("<joint/>"), "the world does not move"),
        (w("<body mocap=\"true\"/>"), "nothing moves a body from outside"),
        (g("<body gravcomp=\"1\"><geom size=\"0.1\" contype=\"0\"/></body>"), "nothing takes gravity off"),
        (w("<body><joint/></body>"), "this joint moves nothing that has mass"),
        (a("<position joint=\"j\" kp=\"5\"/>"), "`position`: the force of a motor does not depend on the state"),
        (a("<muscle joint=\"j\"/>"), "an actuator with `muscle` cannot be represented"),
        (a("<general joint=\"j\" dyntype=\"filter\"/>"), "an actuator with `dyntype` filter"),
        (a("<motor site=\"s\"/>"), "nothing is driven through a `site`"),
        (a("<motor tendon=\"t\"/>"), "nothing is driven by tendons"),
        (a("<motor/>"), "this actuator acts on nothing"),
        (a("<motor joint=\"k\"/>"), "there is no joint `k`"),
        (a("<motor joint=\"j\" ctrlrange=\"0 1\"/>"), "make the control range symmetric"),
        (a("<motor joint=\"j\" forcerange=\"-1 1\"/>"), "forces of motors are not cut"),
        (a("<motor joint=\"j\" gear=\"1 1\"/>"), "give `gear` one number"),
        (a("<motor joint=\"j\" kp=\"1\"/>"), "`motor` has no attribute `kp`"),
        (a("<motor joint=\"j\"/><motor joint=\"j\"/>"), "drives this joint already"),
    ] {
        let mut file = FRAME.to_owned();
        for name in ["OPTION", "INSIDE", "WORLD", "AFTER"] {
            file = file.replace(name, if name == slot { &text } else { "" });
        }
        let found = Mjcf::read("my.xml", &file).and_then(|m| m.lower());
        let said = found.map(|_| ()).expect_err(&text).to_string();
        // What never ends is missed further down.
        let at = if text.ends_with("\"0.1\"") { "my.xml:8:".into() } else { format!("my.xml:{line}:") };
        assert!(said.contains(expected) && said.starts_with(&at), "{text}, at {at}:\n{said}");
    }
    let said = |text: &str| Mjcf::read("my.xml", text).and_then(|m| m.lower()).unwrap_err().to_string();
    let tilted =
        world("<geom type=\"plane\" size=\"1 1 1\" euler=\"5 0 0\"/><body><joint/><geom size=\"0.1\"/></body>");
    assert!(said(&tilted).starts_with("my.xml:3:1: the ground of this law is level"), "{}", said(&tilted));
    assert!(said("<mujoco>\n<worldbody/></mujoco>").starts_with("my.xml:2:1: nothing moves here"));
    assert!(said("<robot/>").contains("not with `mujoco`"));
    assert!(said("<!DOCTYPE a [<!ENTITY b \"c\">]><mujoco/>").contains("this is no XML"));
    assert!(said(&world(&"<body>".repeat(3000))).contains("XML"));
    let deep = world(&("<body>".repeat(3000) + &"</body>".repeat(3000)));
    assert!(said(&deep).contains("nested deeper than"));
    // An angle in degrees is not one in radians.
    let half = "<body><joint range=\"-90 90\"/><geom size=\"1\"/></body>";
    close(&[lower(&world(half)).robot.bodies[0].joint.upper], &[FRAC_PI_2], 1e-15);
}

/// Mass matrices, and forces of inertia, gravity, springs and dampers, of two robots as MuJoCo 2.3.1 has them.
#[test]
fn two_robots_move_as_in_mujoco() {
    for (name, text, (q, qd, mass, forces)) in [("walker", WALKER, WALKER_STATE), ("runner", RUNNER, RUNNER_STATE)] {
        let l = lower(text);
        let model = Model::<f64>::new(&l.robot, Inertia::Exact);
        let mut w = Work::<f64, 9, 14>::new(&model);
        pwm::sim::step::forces(&model, &q, &qd, &[0.0; 9], 0.0, &mut w);
        close(&w.tau[..9], &forces, 1e-11);
        mass_matrix(&model, &mut w);
        let rows = (0..9).flat_map(|r| (0..=r).map(move |c| (r, c)));
        let got: Vec<f64> = rows
            .map(|(r, c)| match c {
                c if c == r => w.factor[r][r] + model.armature[r],
                c if model.ancestors(r).contains(&c) => w.factor[r][c],
                _ => 0.0,
            })
            .collect();
        println!("{name}");
        close(&got, &mass, 1e-11);
    }
}

/// Coordinates, velocities, the lower triangle of the mass matrix row by row; forces without contact, limits and motors.
const WALKER_STATE: ([f64; 9], [f64; 9], [f64; 45], [f64; 9]) = (
    [
        -0.9400444005282155,
        -0.15895619191888408,
        -0.2683927834388924,
        1.494759845301236,
        -0.309224107924232,
        -0.38836649455740985,
        1.7991805638586476,
        -0.8682944036783043,
        0.808975118090998,
    ],
    [
        0.4295585840531635,
        0.6710912873249769,
        1.9464537983493118,
        6.078389870275589,
        -7.6645298006679425,
        -35.23668544787448,
        -1.094167563553953,
        6.776062285387765,
        0.5418454217166406,
    ],
    [
        28.54032206031208,
        0.0,
        28.54032206031208,
        -10.564662434245498,
        -3.7054364739986103,
        9.35749986564371,
        4.841280834486445,
        -0.5007741948858954,
        -3.931714557450414,
        3.701421940897562,
        1.7914732087507503,
        0.09321977015792071,
        -1.7915624201644484,
        1.6220777250960285,
        0.8488027124052631,
        0.060822802168538415,
        -0.10996342018193961,
        -0.05462973061294527,
        0.08159895938951824,
        0.04527362145201977,
        0.031480639768920425,
        4.301956359741811,
        -0.9620712172511876,
        -3.070328963657901,
        0.0,
        0.0,
        0.0,
        3.0163766547147883,
        1.5704207061110984,
        0.5187624524930889,
        -1.4852894292396448,
        0.0,
        0.0,
        0.0,
        1.2102982193023752,
        0.7102889870007298,
        -0.05323591769171876,
        -0.11383015465711854,
        0.05779239945532092,
        0.0,
        0.0,
        0.0,
        -0.020630781578321176,
        -0.023983241250247075,
        0.03148063976892021,
    ],
    [
        -119.72810153942388,
        217.40752293368928,
        -111.5945617335895,
        98.62019571129224,
        71.27220029196997,
        1.3615835392589943,
        -49.21589204776097,
        -12.44855588844745,
        -0.6349530870054039,
    ],
);

/// Coordinates, velocities, the lower triangle of the mass matrix row by row; forces without contact, limits and motors.
const RUNNER_STATE: ([f64; 9], [f64; 9], [f64; 45], [f64; 9]) = (
    [
        -0.1147066749709055,
        -0.1513953812219126,
        -0.12114883235895457,
        0.047155502802653,
        0.47493090714160735,
        0.08382706364021486,
        -0.04496772445701352,
        0.29109864171070576,
        -0.40688660524626147,
    ],
    [
        0.4473543571286476,
        0.22089062094137224,
        1.8114315702689598,
        2.268788028718715,
        -7.517050581936513,
        2.936883487788773,
        5.068205981906011,
        -7.926182643696601,
        -1.3025165364260607,
    ],
    [
        14.000000000000002,
        0.0,
        14.000000000000002,
        -1.8083900690265102,
        -0.5509309046471751,
        3.6639739985315054,
        -0.9722271718399238,
        -0.03576189667492047,
        0.38701674197773783,
        0.44601849229063506,
        -0.14638686759158204,
        0.6106645161863067,
        0.43719472967601786,
        0.1252547951847775,
        0.29921464268143017,
        -0.10932517706776013,
        0.020438444631883268,
        0.06525024057294494,
        0.048499799199288526,
        0.026175338495526692,
        0.11764487598326351,
        -1.0663771171597303,
        0.062245352942736476,
        0.3475470313501549,
        0.0,
        0.0,
        0.0,
        0.5428788688880392,
        -0.33766743738223004,
        -0.2136731249697582,
        0.2593258142316368,
        0.0,
        0.0,
        0.0,
        0.17367632605665181,
        0.2069577361959759,
        -0.04839960422245487,
        -0.05545642613322216,
        0.05671202326870998,
        0.0,
        0.0,
        0.0,
        0.032111656879355036,
        0.02499146893480801,
        0.10965440234309624,
    ],
    [
        -6.900011472401044,
        -185.87173790182595,
        17.910068599384722,
        -23.70708457479284,
        -59.9921613167313,
        -18.90254372214416,
        -13.054483164528614,
        -5.474201738205206,
        27.734764567280386,
    ],
);
