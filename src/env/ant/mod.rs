//! The Ant task: run along +x. 37 observations, 8 actions in [-1, 1], 1/60 s a step.
//!
//! | file | what |
//! |---|---|
//! | this | settings, sizes, the compiled robot |
//! | [`task`] | observation, reward, termination |
//! | [`batch`] | rows of environments: `f32` in lanes, `f64` and dual numbers one by one |
//! | [`reset`] | start states |
//! | [`draw`] | shapes of the robot in a given state, forces of the ground |

pub mod batch;
pub mod draw;
pub mod reset;
pub mod task;

pub use batch::{Cotangents, EnvReal, Operands, Results};
pub use draw::{DrawnShape, GroundForce, bodies_for_drawing, ground_forces};
pub use reset::reset_row;
pub use task::{is_terminal, observe_row};

use super::EnvSizes;
use crate::device::cpu::lanes::Lanes8;
use crate::device::{Dual, Scalar};
use crate::sim::{self, Articulation, Inertia, Model, ReferencePoint, Subgradient, Timing};
use serde::{Deserialize, Serialize};

#[cfg(target_arch = "x86_64")]
use crate::device::cpu::lanes::{Avx8, avx2_fma};

pub const NAME: &str = "ant";
pub const OBS: usize = 37;
pub const ACT: usize = 8;
pub const NQ: usize = 15;
pub const NQD: usize = 14;
pub const BODIES: usize = 9;
pub const SIZES: EnvSizes = EnvSizes { obs: OBS, act: ACT, nq: NQ, nqd: NQD };

/// Environment step (s) and the substeps it is cut into.
pub const DT: f64 = 1.0 / 60.0;
pub const SUBSTEPS: usize = 16;
/// Hinge torque of a full action [N m].
pub const ACTION_SCALE: f64 = 200.0;

/// Coordinates of the start pose: torso at 0.75 m turned -90° about x, ankles bent by 1 rad.
pub const START_Q: [f64; NQ] = {
    const H: f64 = std::f64::consts::FRAC_1_SQRT_2;
    [0.0, 0.75, 0.0, -H, 0.0, 0.0, H, 0.0, 1.0, 0.0, -1.0, 0.0, -1.0, 0.0, 1.0]
};

/// What can be chosen about the task.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AntSettings {
    /// Steps after which an episode is truncated.
    pub episode_length: usize,
    /// Whether falling below `termination_height` ends the episode.
    pub early_termination: bool,
    /// m
    pub termination_height: f64,
    /// Coefficient of Σ a² in the reward; added, so a penalty is negative.
    pub action_penalty: f64,
    pub up_rew_scale: f64,
    /// Factor on the hinge velocities in the observation.
    pub joint_vel_obs_scaling: f64,
    /// The mass matrix is rebuilt every so many substeps; 16 is once per step.
    pub mm_caching_frequency: usize,
    /// Random start states.
    pub stochastic_init: bool,
    /// Whether observation entries 29-36 hold the clipped action (PWM) or zeros (SHAC).
    pub action_in_obs: bool,
    pub inertia: Inertia,
    pub reference_point: ReferencePoint,
    /// What the gradient takes where there is none.
    pub subgradient: Subgradient,
}

impl Default for AntSettings {
    fn default() -> Self {
        Self {
            episode_length: 1000,
            early_termination: true,
            termination_height: 0.27,
            action_penalty: 0.0,
            up_rew_scale: 0.1,
            joint_vel_obs_scaling: 0.1,
            mm_caching_frequency: 16,
            stochastic_init: true,
            action_in_obs: true,
            inertia: Inertia::Reference,
            reference_point: ReferencePoint::Torso,
            subgradient: Subgradient::Reference,
        }
    }
}

/// The task, its robot compiled for every number type it is stepped in.
#[derive(Clone)]
pub struct Ant {
    pub settings: AntSettings,
    pub robot: Articulation,
    pub(crate) f64: Model<f64>,
    pub(crate) dual: Model<Dual>,
    pub(crate) lanes: Model<Lanes8>,
    /// Present where the processor has the instructions.
    #[cfg(target_arch = "x86_64")]
    pub(crate) avx: Option<Model<Avx8>>,
}

/// Its settings, which make the rest: operations that hold a task are told apart by how they print.
impl std::fmt::Debug for Ant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ant").field("settings", &self.settings).finish_non_exhaustive()
    }
}

fn compile<S: Scalar>(robot: &Articulation, settings: &AntSettings) -> Model<S> {
    let mut model = Model::new(robot, settings.inertia);
    model.kinks = settings.subgradient.kinks();
    model
}

impl Ant {
    /// Compiles the robot. A caching frequency of zero, which would never build the mass matrix, counts as one.
    pub fn new(settings: AntSettings) -> Self {
        let settings = AntSettings { mm_caching_frequency: settings.mm_caching_frequency.max(1), ..settings };
        let robot = sim::robots::ant();
        Self {
            settings,
            f64: compile(&robot, &settings),
            dual: compile(&robot, &settings),
            lanes: compile(&robot, &settings),
            #[cfg(target_arch = "x86_64")]
            avx: avx2_fma().then(|| compile(&robot, &settings)),
            robot,
        }
    }

    /// The robot in `f64`.
    pub fn model(&self) -> &Model<f64> {
        &self.f64
    }

    /// How one environment step is cut up.
    #[inline(always)]
    pub fn timing<S: Scalar>(&self) -> Timing<S> {
        Timing {
            h: S::of(DT / SUBSTEPS as f64),
            substeps: SUBSTEPS,
            mass_matrix_every: self.settings.mm_caching_frequency,
            reference_point: self.settings.reference_point,
        }
    }

    /// An episode that has run for `progress` steps is cut.
    pub fn is_truncated(&self, progress: usize) -> bool {
        progress + 1 > self.settings.episode_length
    }
}
