//! The key table: every key's name, type, default, range, unit and explanation, once.
//!
//! A row that says nothing of its effect decides what is learned. The macro turns a row into a field of `Config`, its
//! default, a row of `KEYS` and an arm of `set` and `get`; validation of ranges, error messages, `--help`,
//! `docs/CONFIG.md` and the resolved YAML all read `KEYS`. The defaults are the published PWM's for one task (its 5M
//! model), except where that is known to be wrong; `configs/alg/*.yaml` change them for a size.

use super::bytes::Bytes;
use super::choices::*;
use super::key::{Effect, Key, KeySection, Range};
use super::shipped::{Shipped, ShippedKind, from_default_env};
use super::spec::OwnSpec;
use super::value::{Field, Value};

macro_rules! keys {
    ($( $section:ident { $( $(#[doc = $doc:literal])+ $name:ident: $ty:ty = $default:expr, $range:expr, $unit:literal $(, $effect:ident)?; )+ } )+) => {
        /// Every setting of a run, resolved. Built by `load`, which has also validated it.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {
            $($( $(#[doc = $doc])+ pub $name: $ty, )+)+
        }

        impl Default for Config {
            fn default() -> Self {
                Config { $($( $name: $default, )+)+ }
            }
        }

        /// The table, in the order the documents show it.
        pub static KEYS: &[Key] = &[
            $($( Key {
                name: stringify!($name),
                section: KeySection::$section,
                effect: [$(Effect::$effect,)? Effect::Learns][0],
                kind: <$ty as Field>::KIND,
                words: <$ty as Field>::WORDS,
                meanings: <$ty as Field>::MEANINGS,
                range: $range,
                unit: $unit,
                doc: concat!($($doc, "\n"),+),
            }, )+)+
        ];

        impl Config {
            /// Gives a key a value; `false` when the value is of the wrong type or out of range, or there is no such
            /// key.
            pub(super) fn set(&mut self, name: &str, value: &Value) -> bool {
                match name {
                    $($( stringify!($name) => {
                        let Some(read) = <$ty as Field>::read(value) else { return false };
                        let range: Range = $range;
                        if !read.numbers().into_iter().all(|x| range.holds(x)) { return false }
                        self.$name = read;
                        true
                    } )+)+
                    _ => false,
                }
            }

            /// The value of a key.
            pub fn get(&self, name: &str) -> Option<Value> {
                match name {
                    $($( stringify!($name) => Some(self.$name.write()), )+)+
                    _ => None,
                }
            }
        }
    };
}

use Range::{Above, Any, AtLeast, Below, Within};

keys! {
    Run {
        /// The algorithm's configuration: a shipped name or a path ending in `.yaml`.
        alg: String = "pwm_small".into(), Any, "";
        /// Decides every random number of the run.
        seed: u64 = 0, Any, "", Repeats;
        /// Length of the run, and what the learning-rate schedules count against.
        max_epochs: u64 = 15_000, AtLeast(1.0), "epochs", Steers;
        /// Stops a sitting after this time without touching the schedules, so the run can be resumed; 0 means no limit.
        max_minutes: f64 = 0.0, AtLeast(0.0), "minutes", Hosts;
        /// Stops the run after this time of the processor, of all its threads and sittings together, so that a busy
        /// machine costs it nothing; it touches no schedule either, and 0 means no limit.
        max_cpu_minutes: f64 = 0.0, AtLeast(0.0), "minutes", Hosts;
        /// Folder of the run; empty means `runs/<env>_<alg>_s<seed>`.
        run_dir: String = String::new(), Any, "", Hosts;
        /// Worker threads; 0 means one for each core. The result does not depend on it.
        threads: usize = 0, Within(0.0, 1024.0), "threads", Hosts;
        /// Where the computation runs.
        device: Device = Device::Auto, Any, "", Hosts;
        /// What the factors of matrix products are rounded to on a GPU, where tf32 and bf16 run on tensor cores; sums,
        /// statistics, weights and the optimiser stay in single precision. The processor multiplies in fp32.
        precision: Precision = Precision::Fp32, Any, "", Steers;
        /// Host memory the run may take; a run whose plan needs more does not start. null means what the control group
        /// or the machine has, less a margin.
        mem: Option<Bytes> = None, Any, "", Hosts;
        /// Memory of the accelerator the run may take; null means what is free there.
        device_mem: Option<Bytes> = None, Any, "", Hosts;
        /// What the reverse pass computes again instead of keeping it. The result does not depend on it.
        recompute: Recompute = Recompute::Auto, Any, "", Hosts;
        /// Where the replay's finished episodes lie. The result does not depend on it.
        replay: ReplayPlace = ReplayPlace::Auto, Any, "", Hosts;
        /// Time between evaluations on the true environment.
        eval_every: u64 = 100, AtLeast(1.0), "epochs", Watches;
        /// Episodes of an evaluation, one in each evaluation environment.
        eval_episodes: usize = 32, Within(1.0, 1_048_576.0), "episodes", Repeats;
        /// Time between checkpoints; one is also written before the first epoch and at the end.
        save_every: u64 = 100, AtLeast(1.0), "epochs", Hosts;
        /// Time between rows of the metrics, which are means over the epochs since the last one.
        log_every: u64 = 10, AtLeast(1.0), "epochs", Hosts;
    }
    Env {
        /// The environment: a shipped name or a path ending in `.yaml`. A set of shipped ones (`mt30`), or a list of names
        /// and patterns (`[walker-*,reacher-easy]`), is a run of several tasks.
        env: String = Shipped::default(ShippedKind::Env).name.into(), Any, "";
        /// The environment's own specification, the part `spec` of its file; null means the shipped one that `env`
        /// names.
        spec: OwnSpec = None, Any, "";
        /// The tasks of the world model in the order of its embeddings; empty means those of `env`, of the data or of
        /// `model`. For `mode=pretrain` also patterns of names.
        tasks: Vec<String> = vec![], Any, "";
        /// Environments stepped side by side while training; of several tasks equally many each.
        num_envs: usize = 128, Within(1.0, 1_048_576.0), "environments";
        /// Steps after which an episode is cut off; its last value is still bootstrapped.
        episode_length: usize = from_default_env("episode_length"), Within(1.0, 1_048_576.0), "steps";
        /// Whether an episode ends when the robot falls below `termination_height`.
        early_termination: bool = from_default_env("early_termination"), Any, "";
        /// Height of the torso below which the robot has fallen.
        termination_height: f64 = from_default_env("termination_height"), Any, "m";
        /// Weight of the squared action in the reward: 0 or negative, as it is added.
        action_penalty: f64 = from_default_env("action_penalty"), Any, "";
        /// Weight of the torso's uprightness in the reward.
        up_rew_scale: f64 = from_default_env("up_rew_scale"), Any, "";
        /// Factor on joint velocities in the observation.
        joint_vel_obs_scaling: f64 = from_default_env("joint_vel_obs_scaling"), Any, "";
        /// Substeps that share one mass matrix; as many as a step has is one computation for an environment step.
        mm_caching_frequency: usize = from_default_env("mm_caching_frequency"), Within(1.0, 1024.0), "substeps";
        /// Whether an episode starts from a random state near the standing one.
        stochastic_init: bool = from_default_env("stochastic_init"), Any, "";
        /// Whether the observation holds the clipped action that led to it (PWM) or zeros in its place (SHAC).
        action_in_obs: bool = from_default_env("action_in_obs"), Any, "";
        /// Which inertias a published robot has; one from a file of its own has those of the file.
        inertia: Inertia = from_default_env("inertia"), Any, "";
        /// The point about which spatial vectors are taken.
        reference_point: ReferencePoint = from_default_env("reference_point"), Any, "";
        /// Of which version of MuJoCo the constants are, for tasks under its law.
        mujoco_version: MujocoVersion = MujocoVersion::V231, Any, "";
        /// What the simulator's gradient is where there is none; read by what learns through the simulator.
        subgradient: Subgradient = from_default_env("subgradient"), Any, "";
    }
    Networks {
        /// What stands for the state inside the world model. Policy and critics see it too: while an encoder learns,
        /// they change with it, which small networks do not survive.
        latent: Latent = Latent::Encoded, Any, "";
        /// Width of an encoded latent, a multiple of `simnorm_dim`; not read by an observed one.
        latent_dim: usize = 512, Within(1.0, 65_536.0), "";
        /// Size of the groups an encoded latent is normalised in, each by a softmax; not read by an observed one.
        simnorm_dim: usize = 8, Within(1.0, 65_536.0), "";
        /// Width of a task's embedding, one more input of every network; not read where there is one task.
        task_dim: usize = 64, Within(1.0, 65_536.0), "";
        /// How the world model gets from one latent to the next. The other `flow_` settings are not read by `mlp`.
        dynamics: Dynamics = Dynamics::Mlp, Any, "";
        /// How the velocity field is integrated over one step of the environment.
        flow_integrator: Integrator = Integrator::Heun, Any, "";
        /// Substeps of that integration.
        flow_substeps: usize = 4, Within(1.0, 1024.0), "substeps";
        /// How the last layer of the velocity field ends.
        flow_head: FlowHead = FlowHead::Tangent, Any, "";
        /// What is done to the latent after integration.
        flow_projection: FlowProjection = FlowProjection::None, Any, "";
        /// Hidden layers of the dynamics and of the reward head.
        units: Vec<usize> = vec![512, 512], Within(1.0, 65_536.0), "";
        /// Hidden layers of the encoder; not read by an observed latent.
        encoder_units: Vec<usize> = vec![256], Within(1.0, 65_536.0), "";
        /// What the policy is. The two `actor_flow_` settings are not read by `gaussian`.
        actor: ActorKind = ActorKind::Gaussian, Any, "";
        /// How a flow policy is integrated from noise to action.
        actor_flow_integrator: Integrator = Integrator::Heun, Any, "";
        /// Substeps of that integration.
        actor_flow_substeps: usize = 2, Within(1.0, 1024.0), "substeps";
        /// Hidden layers of the actor.
        actor_units: Vec<usize> = vec![400, 200, 100], Within(1.0, 65_536.0), "";
        /// Hidden layers of each critic.
        critic_units: Vec<usize> = vec![400, 200], Within(1.0, 65_536.0), "";
        /// Critics; their smallest value is used.
        num_critics: usize = 3, Within(1.0, 64.0), "";
        /// Logarithm of the actor's deviation at the start; of a flow policy, of the noise it starts from.
        actor_init_logstd: f64 = -1.0, Within(-20.0, 5.0), "";
        /// The logarithm of the deviation never falls below this; that of a flow policy's noise never below -10.
        actor_min_logstd: f64 = -1.427, Within(-20.0, 5.0), "";
        /// Factor on every initial parameter of the actor.
        actor_init_gain: f64 = 1.0, Above(0.0), "";
        /// What the reward head predicts; decides its loss too.
        reward_head: RewardHead = RewardHead::Scalar, Any, "";
        /// Bins of the two-hot reward head; not read by the scalar one.
        num_bins: usize = 101, Within(2.0, 65_536.0), "bins";
        /// Lower end of the bins.
        vmin: f64 = -10.0, Within(-80.0, 80.0), "symlog reward";
        /// Upper end of the bins.
        vmax: f64 = 10.0, Within(-80.0, 80.0), "symlog reward";
        /// How the two-hot reward head is read; not read by the scalar one.
        decode: Decode = Decode::Symexp, Any, "";
        /// Weight of the two-hot head's cross-entropy in the model's loss; not read by the scalar one.
        reward_coef: f64 = 0.1, AtLeast(0.0), "";
    }
    Algorithm {
        /// What the run learns, and from what.
        mode: Mode = Mode::Train, Any, "";
        /// Recorded episodes to learn from: an index that `pwm data index` wrote, or a list of them. The chunks must not
        /// change while a run uses them.
        data: Vec<String> = vec![], Any, "", Hosts;
        /// What these episodes are, as a number that is found when a run begins: it goes on with no others.
        data_id: String = String::new(), Any, "";
        /// Share of each task's recorded episodes, one here and there, that nothing is learned from: a model is judged by
        /// them.
        held_out: f64 = 0.02, Within(0.0, 0.5), "";
        /// How often recorded episodes of a task are drawn.
        task_sampling: TaskSampling = TaskSampling::Tasks, Any, "";
        /// A checkpoint, or a run's folder, whose world model this run begins with. What kind of a model it is (widths,
        /// dynamics, reward head) it brings along, whatever other settings say.
        model: String = String::new(), Any, "";
        /// A task of `model` whose embedding those of tasks begin with that it does not know (`mode=pretrain`); empty means
        /// as embeddings of a new model begin.
        task_init: String = String::new(), Any, "";
        /// Whether that model goes on learning from recorded episodes while a policy is learned in it.
        finetune: bool = false, Any, "";
        /// What learns.
        algorithm: Algorithm = Algorithm::Pwm, Any, "";
        /// Steps of a rollout, in the environment, in the latent and in a replay window.
        horizon: usize = 16, Within(1.0, 4096.0), "steps";
        /// Discount of a step.
        gamma: f64 = 0.99, Within(0.0, 1.0), "";
        /// Weight of longer returns in the critic's targets (TD-lambda).
        lam: f64 = 0.95, Within(0.0, 1.0), "";
        /// Weight of longer returns in the actor's objective. 1 is PWM: only the last state is valued. Below 1 every
        /// imagined state is, which gives the gradient a reason to avoid falls.
        actor_lambda: f64 = 1.0, Within(0.0, 1.0), "";
        /// Whether the actor's input is cut from the gradient, which then flows through the model alone.
        detach: bool = true, Any, "";
        /// Which latents the policy acts on during a rollout.
        rollout: Rollout = Rollout::Imagined, Any, "";
        /// Learning rate of the actor at the start.
        actor_lr: f64 = 5e-4, Within(0.0, 1.0), "";
        /// Learning rate of the critics at the start.
        critic_lr: f64 = 5e-4, Within(0.0, 1.0), "";
        /// Learning rate of the world model at the start.
        model_lr: f64 = 3e-4, Within(0.0, 1.0), "";
        /// How the three learning rates fall over `max_epochs`.
        lr_schedule: LrSchedule = LrSchedule::Linear, Any, "";
        /// What the learning rates fall to.
        lr_end: f64 = 1e-5, Within(0.0, 1.0), "";
        /// Epoch at which the learning rates begin to fall.
        lr_decay_start: u64 = 0, Any, "epochs";
        /// The actor's own `lr_schedule`; null means as the others.
        actor_lr_schedule: Option<LrSchedule> = None, Any, "";
        /// The critics' own `lr_schedule`; null means as the others.
        critic_lr_schedule: Option<LrSchedule> = None, Any, "";
        /// The world model's own `lr_schedule`; null means as the others.
        model_lr_schedule: Option<LrSchedule> = None, Any, "";
        /// The actor's own `lr_end`; null means as the others.
        actor_lr_end: Option<f64> = None, Within(0.0, 1.0), "";
        /// The critics' own `lr_end`; null means as the others.
        critic_lr_end: Option<f64> = None, Within(0.0, 1.0), "";
        /// The world model's own `lr_end`; null means as the others.
        model_lr_end: Option<f64> = None, Within(0.0, 1.0), "";
        /// The actor's own `lr_decay_start`; null means as the others.
        actor_lr_decay_start: Option<u64> = None, Any, "epochs";
        /// The critics' own `lr_decay_start`; null means as the others.
        critic_lr_decay_start: Option<u64> = None, Any, "epochs";
        /// The world model's own `lr_decay_start`; null means as the others.
        model_lr_decay_start: Option<u64> = None, Any, "epochs";
        /// Epochs over which the learning rates first rise from 0.
        warmup_epochs: u64 = 0, AtLeast(0.0), "epochs";
        /// Adam's two decay rates for the actor.
        actor_betas: [f64; 2] = [0.7, 0.95], Below(0.0, 1.0), "";
        /// Adam's two decay rates for the critics.
        critic_betas: [f64; 2] = [0.7, 0.95], Below(0.0, 1.0), "";
        /// Adam's two decay rates for the world model.
        model_betas: [f64; 2] = [0.9, 0.999], Below(0.0, 1.0), "";
        /// The actor's gradient is scaled down to this norm.
        actor_grad_norm: f64 = 1.0, Above(0.0), "";
        /// SHAC: the gradient that flows back through one step of one environment, of its own return, is scaled down to
        /// this norm. How often is counted in the metrics.
        step_grad_norm: f64 = 100.0, Above(0.0), "";
        /// The critics' gradient is scaled down to this norm.
        critic_grad_norm: f64 = 100.0, Above(0.0), "";
        /// The world model's gradient is scaled down to this norm.
        wm_grad_norm: f64 = 20.0, Above(0.0), "";
        /// The critics' outputs are values divided by this. Values of a robot that runs are in the hundreds; outputs
        /// near 1 are learned sooner. 1 is PWM's.
        value_scale: f64 = 1.0, Above(0.0), "";
        /// Passes over the rollout when the critics learn.
        critic_iterations: usize = 8, Within(1.0, 1_048_576.0), "passes";
        /// Minibatches of a pass; must divide `num_envs` x `horizon`.
        critic_batches: usize = 4, Within(1.0, 1_048_576.0), "minibatches";
        /// Whether the rollout is shuffled before each pass; PWM does not.
        critic_shuffle: bool = false, Any, "";
        /// World-model updates of an epoch.
        wm_iterations: usize = 8, Within(1.0, 1_048_576.0), "updates";
        /// Replay windows of a world-model update.
        wm_batch_size: usize = 256, Within(1.0, 1_048_576.0), "windows";
        /// Size of the replay buffer.
        wm_buffer_size: usize = 1_000_000, Within(1.0, 1e12), "rows";
        /// World-model updates of the first epoch that can learn; null means `episode_length`, as in PWM.
        wm_bootstrap_iterations: Option<usize> = None, AtLeast(0.0), "updates";
        /// Model times at which flow dynamics are trained.
        flow_tau_sampling: TauSampling = TauSampling::Uniform, Any, "";
        /// Weight of the integrated latent's squared error in the loss of flow dynamics. Matching velocities alone
        /// never sees what the integrator makes of them: with 1 a small model learned sooner and erred less
        /// (docs/RESULTS.md). 0 is the published loss.
        flow_consistency: f64 = 1.0, AtLeast(0.0), "";
        /// Whether latents between substeps are kept for the reverse pass. Without, memory does not grow with
        /// `flow_substeps`, and the integration is done once more: about a quarter of its cost.
        flow_keep_substeps: bool = true, Any, "";
        /// What is done to rewards before the model learns them.
        rew_norm: RewNorm = RewNorm::CenterScale, Any, "";
        /// Rewards are clamped to this size before they are stored, so that one blow-up of the simulator cannot ruin
        /// the statistics; a step of the shipped tasks earns less than 20. 0 means off.
        reward_clip: f64 = 100.0, AtLeast(0.0), "reward of a step";
        /// Whether the actor's loss is divided by the deviation of returns.
        ret_norm: bool = true, Any, "";
        /// Weight of the past in the statistics of returns at each update; 0 means that nothing is ever forgotten.
        ret_norm_decay: f64 = 0.0, Below(0.0, 1.0), "";
        /// Whether observations are normalised before networks see them.
        obs_norm: bool = false, Any, "";
        /// How the start of a replay window is drawn.
        replay_sampling: ReplaySampling = ReplaySampling::Episode, Any, "";
        /// Whether rows of episodes that are still running can be replayed.
        replay_unfinished: bool = false, Any, "";
        /// Bookkeeping at the last step of a rollout.
        bootstrap: Bootstrap = Bootstrap::Exact, Any, "";
    }
    Stopping {
        /// Policies kept, by evaluation: the best as `best.safetensors`, and with more than one each also under its
        /// epoch.
        keep_best: usize = 3, Within(1.0, 1000.0), "policies", Hosts;
        /// The policy is also kept every so many epochs, for good; 0 means never.
        keep_every: u64 = 0, Any, "epochs", Hosts;
        /// The run ends after so many evaluations in a row without a better one; 0 means never.
        early_stop_patience: u64 = 0, Any, "evaluations", Steers;
        /// What an evaluation must be above the best before to count as better.
        early_stop_min_gain: f64 = 0.0, AtLeast(0.0), "return", Steers;
        /// Evaluations before this epoch are neither counted against the run nor judged as a collapse.
        guard_warmup: u64 = 0, Any, "epochs", Steers;
        /// What happens when evaluations collapse.
        collapse: Collapse = Collapse::Warn, Any, "", Steers;
        /// An evaluation below this fraction of the best one (where that is positive) is low.
        collapse_fraction: f64 = 0.5, Below(0.0, 1.0), "", Steers;
        /// Low evaluations in a row that make a collapse.
        collapse_evals: u64 = 2, AtLeast(1.0), "evaluations", Steers;
        /// Factor on all learning rates at a rollback, whether after a collapse or after numbers that were not finite.
        rollback_lr_factor: f64 = 0.5, Within(0.0, 1.0), "", Steers;
        /// Rollbacks before the run gives up.
        max_rollbacks: u64 = 3, Any, "rollbacks", Steers;
    }
}
