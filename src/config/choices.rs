//! The keys whose value is one word of a short list.
//!
//! `words!` writes the enum, the list of its words (in the order the documents show them) and the two
//! conversions, so that a word cannot exist in the enum and be missing from an error message.

use super::value::{Field, Value};

macro_rules! words {
    ($( $(#[doc = $doc:literal])+ $name:ident { $( $(#[doc = $vdoc:literal])+ $variant:ident = $word:literal $(or $alias:literal)?, )+ } )+) => { $(
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $( $(#[doc = $vdoc])+ $variant, )+ }

        impl $name {
            /// Every word that is shown; some are accepted under a second name too.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word that the YAML files and the command line use.
            pub fn word(self) -> &'static str {
                match self { $( Self::$variant => $word, )+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(s: &str) -> Result<Self, String> {
                let word = Value::Text(s.into());
                Self::read(&word).ok_or_else(|| format!("{s} is none of {}", Self::WORDS.join(", ")))
            }
        }

        impl Field for $name {
            const KIND: &'static str = "word";
            const WORDS: &'static [&'static str] = Self::WORDS;
            const MEANINGS: &'static [&'static str] = &[$( concat!($($vdoc),+) ),+];

            fn read(value: &Value) -> Option<Self> {
                match value {
                    $( Value::Text(t) if t == $word $(|| t == $alias)? => Some(Self::$variant), )+
                    _ => None,
                }
            }

            fn write(&self) -> Value {
                Value::Text(self.word().into())
            }
        }
    )+ };
}

/// Where the computation runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Device {
    /// The first GPU if there is one that can be used, else the processor.
    Auto,
    Cpu,
    /// The GPU of this number.
    Cuda(u32),
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
        }
    }
}

impl std::str::FromStr for Device {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            _ => (s.strip_prefix("cuda:").and_then(|n| n.parse().ok()).map(Self::Cuda))
                .ok_or_else(|| format!("a device is auto, cpu or cuda:N, not {s}")),
        }
    }
}

impl Field for Device {
    const KIND: &'static str = "word";
    const WORDS: &'static [&'static str] = &["auto", "cpu", "cuda:0"];
    const MEANINGS: &'static [&'static str] = &[
        "the first GPU if there is one that can be used, else the processor.",
        "the processor.",
        "the GPU of this number.",
    ];

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Text(t) => t.parse().ok(),
            _ => None,
        }
    }

    fn write(&self) -> Value {
        Value::Text(self.to_string())
    }
}

words! {
    /// What learns.
    Algorithm {
        /// PWM: a policy through a learned world model.
        Pwm = "pwm",
        /// SHAC: a policy through the simulator itself.
        Shac = "shac",
    }

    /// What a run learns, and from what.
    Mode {
        /// policy and model, from true environments.
        Train = "train",
        /// the model alone, from recorded episodes.
        Pretrain = "pretrain",
        /// a policy for one task of a model that is there, from recorded episodes.
        Policy = "policy",
    }

    /// How much of recorded data a task is.
    TaskSampling {
        /// all tasks alike.
        Tasks = "tasks",
        /// every episode alike.
        Episodes = "episodes",
    }

    /// What the factors of matrix products are rounded to on a GPU. Sums of products, statistics, weights and the
    /// optimiser stay in single precision.
    Precision {
        /// single precision: what published PWM was trained in, and the processor always computes in.
        Fp32 = "fp32",
        /// 11 significant bits, on tensor cores.
        Tf32 = "tf32",
        /// 8 significant bits, on tensor cores.
        Bf16 = "bf16",
    }

    /// What the reverse pass computes again instead of keeping it.
    Recompute {
        /// as little as keeps the run within `mem` and `device_mem`, what saves most for its arithmetic first.
        Auto = "auto",
        /// nothing.
        None = "none",
        /// all that can be.
        All = "all",
    }

    /// Where the replay's finished episodes lie.
    ReplayPlace {
        /// the first of these that keeps the run within its budgets.
        Auto = "auto",
        /// with everything else: in the GPU's memory, or on a processor in main memory.
        Device = "device",
        /// in main memory, pinned, where a GPU reads it in place; on a processor the same as `device`.
        Host = "host",
        /// in a file without a name beside the run's folder, mapped into memory; on a processor only.
        File = "file",
    }

    /// Which spatial inertias the robot has.
    Inertia {
        /// the published robots' inertias, with their known flaws.
        Reference = "reference",
        /// inertias of the solids the robot is drawn with.
        Exact = "exact",
    }

    /// The point about which spatial vectors are taken.
    ReferencePoint {
        /// the world's origin, as in the published simulator.
        World = "world",
        /// the torso, moved once per environment step: the same mathematics, less rounding far from the origin.
        Torso = "torso",
    }

    /// What the simulator's gradient is at a kink.
    Subgradient {
        /// as in the published simulator: of the smaller of two equal forces the second's, none of friction at rest,
        /// the inside's at a joint's limit and at the ends of the action's range.
        Reference = "reference",
        /// the mean of both sides, as central differences measure it; friction at rest is viscous.
        Central = "central",
    }

    /// Of which version of MuJoCo the constants are: one differs, and with it every contact of what only slides.
    MujocoVersion {
        /// that with which the published scores were made.
        V231 = "2.3.1",
        /// and later.
        V312 = "3.1.2",
    }

    /// What stands for the state inside the world model.
    Latent {
        /// PWM: the output of a learned encoder, normalised in groups (SimNorm); the dynamics give the next one.
        Encoded = "encoded",
        /// the observation itself, normalised if `obs_norm` says so; the dynamics give its change.
        Observed = "observed",
    }

    /// How the world model gets from one latent to the next.
    Dynamics {
        /// PWM: a network that gives the next latent.
        Mlp = "mlp",
        /// a velocity field that is integrated over one unit of model time.
        Flow = "flow",
    }

    /// What the policy is.
    ActorKind {
        /// a network that gives the mean of a Gaussian, with a deviation free of the state.
        Gaussian = "gaussian",
        /// a velocity field that carries noise to the action, with the latent as condition.
        Flow = "flow",
    }

    /// Explicit Runge-Kutta method that integrates a velocity field.
    Integrator {
        /// first order, one evaluation a substep.
        Euler = "euler",
        /// second order, two evaluations a substep.
        Heun = "heun",
        /// fourth order, four evaluations a substep.
        Rk4 = "rk4",
    }

    /// Model times at which the velocity field is trained.
    TauSampling {
        /// drawn uniformly from [0, 1), one a row.
        Uniform = "uniform",
        /// always 1/2.
        Midpoint = "midpoint",
    }

    /// How the last layer of the velocity field ends.
    FlowHead {
        /// linear, with the mean of each group removed: the sums of a latent's groups then stay 1 under every
        /// integrator.
        Tangent = "tangent",
        /// linear.
        Linear = "linear",
        /// published: LayerNorm and SimNorm. Every group of such a velocity sums to 1, so that each step adds 1 to the
        /// sums of the latent's groups, and most velocities cannot be represented; for comparison only.
        Simnorm = "simnorm",
    }

    /// What is done to the latent after integration.
    FlowProjection {
        /// nothing.
        None = "none",
        /// each group moves to the nearest point of the probability simplex.
        Simplex = "simplex",
    }

    /// What the reward head predicts.
    RewardHead {
        /// one number, trained by squared error.
        Scalar = "scalar",
        /// logits over bins of the symlog reward, trained by soft cross-entropy.
        TwoHot = "two_hot",
    }

    /// How the two-hot reward head is read.
    Decode {
        /// back to the reward's own unit.
        Symexp = "symexp",
        /// left in symlog space, as published PWM does.
        Symlog = "symlog",
    }

    /// How a learning rate falls over `max_epochs`.
    LrSchedule {
        /// a straight line to `lr_end`.
        Linear = "linear",
        /// half a cosine to `lr_end`.
        Cosine = "cosine",
        /// they do not fall.
        Constant = "constant",
    }

    /// What is done to rewards before the model learns them.
    RewNorm {
        /// nothing.
        None = "none",
        /// divided by their deviation: zero stays zero, so falling still costs the rewards it forgoes.
        Scale = "scale",
        /// mean removed too, as published PWM does: a fall then reads as an average step.
        CenterScale = "center_scale",
    }

    /// How the start of a replay window is drawn.
    ReplaySampling {
        /// every window of the buffer is as likely as another.
        Row = "row",
        /// first an episode, then a window in it, as in PWM: short episodes are over-represented.
        Episode = "episode",
    }

    /// Which latents the policy acts on during a rollout.
    Rollout {
        /// PWM: those the model imagines, open loop until the horizon or the end of the episode.
        Imagined = "imagined",
        /// those of what the environment shows at each step; gradients still flow through the model. The idea is that
        /// of "First Order Model-Based RL through Decoupled Backpropagation" (DMO, CoRL 2025), and `decoupled` means
        /// the same.
        Anchored = "anchored" or "decoupled",
    }

    /// Bookkeeping at the last step of a rollout.
    Bootstrap {
        /// the discount and the rewards that the derivation asks for.
        Exact = "exact",
        /// published PWM's: one discount too many, and the rewards of an episode ending at the last step lost.
        Reference = "reference",
    }

    /// What happens when evaluations collapse.
    Collapse {
        /// a line is printed and kept in `incidents.jsonl`.
        Warn = "warn",
        /// the run stops; the best policy is kept.
        Stop = "stop",
        /// networks and statistics return to the best policy, optimisers start anew, learning rates are lowered.
        Rollback = "rollback",
    }
}

impl Field for Option<LrSchedule> {
    const KIND: &'static str = "word or null";
    const WORDS: &'static [&'static str] = &["linear", "cosine", "constant", "null"];
    const MEANINGS: &'static [&'static str] =
        &[LrSchedule::MEANINGS[0], LrSchedule::MEANINGS[1], LrSchedule::MEANINGS[2], "as `lr_schedule` says."];

    fn read(value: &Value) -> Option<Self> {
        if *value == Value::Null { Some(None) } else { LrSchedule::read(value).map(Some) }
    }

    fn write(&self) -> Value {
        self.as_ref().map_or(Value::Null, Field::write)
    }
}
