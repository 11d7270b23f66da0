//! Robots in MuJoCo's XML, and tasks on them.

/// The shipped one-legged robot as a file: the numbers of the law's description, in MuJoCo's words.
pub const LEG: &str = r#"<mujoco model="one leg">
  <compiler angle="radian"/>
  <default>
    <joint armature="1"/>
    <geom type="capsule" contype="1" conaffinity="0" friction="0.9" size="0.05"/>
    <motor ctrlrange="-1 1" gear="200"/>
    <default class="leg">
      <joint axis="0 -1 0" damping="2"/>
    </default>
  </default>
  <worldbody>
    <geom name="floor" type="plane" size="10 10 1" conaffinity="1"/>
    <body name="torso" pos="0 0 1.25">
      <joint name="rootx" type="slide" axis="1 0 0" pos="0 0 -1.25"/>
      <joint name="rootz" type="slide" axis="0 0 1"/>
      <joint name="rooty" axis="0 1 0"/>
      <geom fromto="0 0 -0.2 0 0 0.2"/>
      <body name="thigh" pos="0 0 -0.2" childclass="leg">
        <joint name="hip" range="-2.61799 0"/>
        <geom fromto="0 0 -0.45 0 0 0"/>
        <body name="leg" pos="0 0 -0.45">
          <joint name="knee" range="-2.61799 0"/>
          <geom fromto="0 0 -0.5 0 0 0" size="0.04"/>
          <body name="foot" pos="0 0 -0.5">
            <joint name="ankle" range="-0.785398 0.785398"/>
            <geom fromto="0.255 0 0 -0.135 0 0" size="0.06"/>
          </body>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator>
    <motor joint="knee"/>
    <motor joint="hip"/>
    <motor name="ankle" joint="ankle"/>
  </actuator>
</mujoco>
"#;

/// The task of the shipped robot on that file.
pub const LEG_TASK: &str = "\
env: hopper
spec:
  robot: leg.xml
  contact: {stiffness: 2e4, damping: 2e3, viscosity: 1e3}
  limits: {stiffness: 1e3, damping: 10}
  action: motors
";

/// A robot with what the other does not have: a free root, a ball, several hinges in one body with anchors of their
/// own, references, springs, boxes and spheres, an inertial, what only looks.
pub const BEAST: &str = r#"<mujoco model="beast">
  <option gravity="0 0 -9.8"/>
  <visual><headlight ambient="1 1 1"/></visual>
  <asset><material name="skin" rgba="1 0 0 1"/></asset>
  <default>
    <geom contype="1" conaffinity="0" material="skin"/>
    <joint damping="0.5" armature="0.02"/>
  </default>
  <worldbody>
    <light pos="0 0 4"/>
    <geom type="plane" size="0 0 1" contype="0" conaffinity="1" friction="0.4"/>
    <geom type="cylinder" size="0.1 2" pos="3 0 1" contype="0" conaffinity="0"/>
    <body name="trunk" pos="0 0 0.6" euler="0 10 0">
      <freejoint/>
      <camera name="eye"/>
      <geom type="box" size="0.2 0.1 0.05" pos="0.02 0 0" euler="0 0 20"/>
      <geom size="0.08" pos="0.25 0 0.05" mass="0.7" friction="0.9"/>
      <site name="top"/>
      <body name="arm" pos="0.1 0.15 0">
        <joint name="shoulder" type="ball" pos="0 -0.05 0.01"/>
        <geom type="capsule" fromto="0 0 0 0 0.3 -0.1" size="0.04"/>
        <body name="hand" pos="0 0.3 -0.1">
          <geom type="sphere" size="0.05" contype="0"/>
        </body>
      </body>
      <body name="leg" pos="-0.15 0 -0.05" axisangle="0 1 0 15">
        <joint name="swing" axis="1 0 0" pos="0 0 0.02" range="-30 40"/>
        <joint name="lift" axis="0 1 0" pos="0.01 0 0" range="-60 60" stiffness="3" springref="10"/>
        <inertial pos="0 0 -0.15" mass="1.2" fullinertia="0.02 0.021 0.003 0.001 0 -0.0005"/>
        <geom type="capsule" size="0.04 0.12" pos="0 0 -0.15"/>
        <body name="foot" pos="0 0 -0.3">
          <joint name="push" type="slide" axis="0 0.1 -1" range="-0.05 0.1" ref="0.02"/>
          <joint name="turn" axis="0 1 0" ref="-20" range="-80 30"/>
          <geom type="box" size="0.08 0.04 0.02" density="700"/>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator>
    <motor joint="swing" gear="20" ctrlrange="-0.5 0.5"/>
    <general joint="lift" gainprm="3" gear="5"/>
    <motor joint="push" gear="-40" ctrlrange="-1 1"/>
    <motor joint="turn" gear="6"/>
  </actuator>
  <sensor><gyro site="top"/></sensor>
  <keyframe><key qpos="0"/></keyframe>
</mujoco>
"#;

pub const BEAST_TASK: &str = "\
episode_length: 20
spec:
  robot: beast.xml
  steps_per_second: 50
  substeps: 10
  contact: {stiffness: 5e3, damping: 1e3, viscosity: 200}
  limits: {stiffness: 200}
  action: motors
  noise: {draws: [position: 0.1, rotation: 20, coordinates: 0.2, velocities: 0.4]}
  observation: [height, rotation, linear_velocity, angular_velocity, coordinates, velocities, up, action]
  reward: [linear: {of: linear_velocity.x}, action_cost: {weight: -0.1}]
";

/// Two robots whose numbers another engine has computed: anchors away from the frames; a total mass, springs.
pub const WALKER: &str = r#"<mujoco model="walker">
  <compiler angle="degree"/>
  <option timestep="0.0025"/>
  <default>
    <joint damping="0.1" armature="0.01" axis="0 -1 0"/>
    <geom type="capsule" contype="1" conaffinity="0" friction="0.7 0.1 0.1"/>
    <default class="rail"><joint damping="0" armature="0" axis="0 1 0"/></default>
  </default>
  <worldbody>
    <geom type="plane" pos="248 0 0" size="250 1 1" conaffinity="1"/>
    <body name="torso" pos="0 0 1.3">
      <joint name="rootz" class="rail" type="slide" axis="0 0 1"/>
      <joint name="rootx" class="rail" type="slide" axis="1 0 0"/>
      <joint name="rooty" class="rail"/>
      <geom size="0.07 0.3"/>
      <body name="right_thigh" pos="0 -0.05 -0.3">
        <joint name="right_hip" range="-20 100"/>
        <geom size="0.05 0.225" pos="0 0 -0.225"/>
        <body name="right_leg" pos="0 0 -0.7">
          <joint name="right_knee" pos="0 0 0.25" range="-150 0"/>
          <geom size="0.04 0.25"/>
          <body name="right_foot" pos="0.06 0 -0.25">
            <joint name="right_ankle" pos="-0.06 0 0" range="-45 45"/>
            <geom size="0.05 0.1" zaxis="1 0 0"/>
          </body>
        </body>
      </body>
      <body name="left_thigh" pos="0 0.05 -0.3">
        <joint name="left_hip" range="-20 100"/>
        <geom size="0.05 0.225" pos="0 0 -0.225"/>
        <body name="left_leg" pos="0 0 -0.7">
          <joint name="left_knee" pos="0 0 0.25" range="-150 0"/>
          <geom size="0.04 0.25"/>
          <body name="left_foot" pos="0.06 0 -0.25">
            <joint name="left_ankle" pos="-0.06 0 0" range="-45 45"/>
            <geom size="0.05 0.1" zaxis="1 0 0"/>
          </body>
        </body>
      </body>
    </body>
  </worldbody>
</mujoco>
"#;
pub const RUNNER: &str = r#"<mujoco model="runner">
  <compiler settotalmass="14"/>
  <option timestep="0.01"><flag contact="disable"/></option>
  <default>
    <joint axis="0 1 0" armature="0.1"/>
    <geom type="capsule"/>
    <default class="rail"><joint armature="0" damping="0"/></default>
  </default>
  <worldbody>
    <body name="torso" pos="0 0 0.7">
      <joint name="rootx" class="rail" type="slide" axis="1 0 0"/>
      <joint name="rootz" class="rail" type="slide" axis="0 0 1"/>
      <joint name="rooty" class="rail"/>
      <geom size="0.046 0.5" zaxis="-1 0 0"/>
      <geom size="0.046 0.15" pos="0.6 0 0.1" zaxis="0.7660444431189781 0 0.6427876096865393"/>
      <body name="bthigh" pos="-0.5 0 0">
        <joint name="bthigh_joint" range="-30 60" damping="6" stiffness="240"/>
        <geom size="0.046 0.145" pos="0.1 0 -0.13" zaxis="0.6156614753256583 0 -0.7880107536067225"/>
        <body name="bshin" pos="0.16 0 -0.25">
          <joint name="bshin_joint" range="-50 50" damping="4.5" stiffness="180"/>
          <geom size="0.046 0.15" pos="-0.14 0 -0.07" zaxis="-0.8987940462991669 0 -0.4383711467890774"/>
          <body name="bfoot" pos="-0.28 0 -0.14">
            <joint name="bfoot_joint" range="-230 50" damping="3" stiffness="120"/>
            <geom size="0.046 0.094" pos="0.03 0 -0.097" zaxis="-0.2588190451025208 0 0.9659258262890683"/>
          </body>
        </body>
      </body>
      <body name="fthigh" pos="0.5 0 0">
        <joint name="fthigh_joint" range="-57 0.4" damping="4.5" stiffness="180"/>
        <geom size="0.046 0.133" pos="-0.07 0 -0.12" zaxis="0.5 0 0.8660254037844386"/>
        <body name="fshin" pos="-0.14 0 -0.24">
          <joint name="fshin_joint" range="-70 50" damping="3" stiffness="120"/>
          <geom size="0.046 0.106" pos="0.065 0 -0.09" zaxis="-0.5591929034707469 0 0.8290375725550416"/>
          <body name="ffoot" pos="0.13 0 -0.18">
            <joint name="ffoot_joint" range="-28 28" damping="1.5" stiffness="60"/>
            <geom size="0.046 0.07" pos="0.045 0 -0.07" zaxis="-0.5591929034707469 0 0.8290375725550416"/>
          </body>
        </body>
      </body>
    </body>
  </worldbody>
</mujoco>
"#;

/// Writes a robot and its task into a folder, and returns the override that takes the task.
pub fn write(folder: &std::path::Path, name: &str, xml: &str, task: &str) -> String {
    std::fs::write(folder.join(format!("{name}.xml")), xml).unwrap();
    let file = folder.join(format!("{name}.yaml"));
    std::fs::write(&file, task).unwrap();
    format!("env={}", file.display())
}
