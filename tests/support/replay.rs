//! Drives the replay operations from outside, and an obvious model of what they should do.

use pwm::backend::Target;
use pwm::device::cpu::team::Team;
use pwm::device::philox::{Philox, Stream};
use pwm::ops::control::copy;
use pwm::ops::replay::{
    Counter, ReplaySpec, ReplayVars, Sampling, Transition, replay_begin, replay_record, replay_sample,
};
use pwm::tape::{DType, Machine, Placement, Program, ProgramId, Region, TapeReal, VarId, Vars};
use std::sync::Arc;

pub struct Driver<F: TapeReal> {
    pub machine: Machine<F>,
    pub vars: ReplayVars,
    /// Observation, action, reward, done, next observation.
    inputs: [VarId; 5],
    /// Observations, actions, rewards of the last sample.
    pub sample: [VarId; 3],
    programs: [ProgramId; 3],
}

impl<F: TapeReal> Driver<F> {
    pub fn new(spec: &ReplaySpec, threads: usize) -> Self {
        Self::on(&Target::Cpu, spec, threads)
    }

    pub fn on(target: &Target, spec: &ReplaySpec, threads: usize) -> Self {
        let (n, o, a, h, b) = (spec.num_envs, spec.obs_dim, spec.act_dim, spec.horizon, spec.batch);
        let mut vars = Vars::default();
        let r = ReplayVars::new(&mut vars, spec);
        let mut add = |name: &str, shape: &[usize]| vars.add(Region::RolloutBuffers, name, DType::Real, shape);
        let inputs =
            [add("obs", &[n, o]), add("act", &[n, a]), add("rew", &[n]), add("done", &[n]), add("next", &[n, o])];
        let sample = [add("s_obs", &[h + 1, b, o]), add("s_act", &[h, b, a]), add("s_rew", &[h, b])];
        let mut begin = Program::new("begin");
        let next = begin.var(&vars, inputs[4]);
        replay_begin(&mut begin, &vars, &r, next);
        let mut record = Program::new("record");
        let [obs, action, reward, done, next] = inputs.map(|v| record.var(&vars, v));
        replay_record(&mut record, &vars, &r, &Transition { obs, action, reward, done, next });
        let mut draw = Program::new("sample");
        let w = replay_sample(&mut draw, &vars, &r);
        for (from, to) in [w.obs, w.act, w.rew].into_iter().zip(sample) {
            let to = draw.var(&vars, to);
            copy(&mut draw, from, to);
        }
        let team = Arc::new(Team::new(threads).expect("threads"));
        let programs = vec![begin, record, draw];
        let machine = Machine::on(target, vars, programs, team, &Placement::Arena).expect("memory");
        let programs = [0, 1, 2].map(|i| machine.program(i));
        Self { machine, vars: r, inputs, sample, programs }
    }

    fn put(&mut self, which: usize, values: &[f64]) {
        for (to, &x) in self.machine.real_mut(self.inputs[which]).iter_mut().zip(values) {
            *to = F::of(x);
        }
    }

    pub fn begin(&mut self, obs: &[f64]) {
        self.put(4, obs);
        self.machine.run(self.programs[0]).expect("run");
    }

    pub fn record(&mut self, step: [&[f64]; 5]) {
        for (i, values) in step.into_iter().enumerate() {
            self.put(i, values);
        }
        self.machine.run(self.programs[1]).expect("run");
    }

    /// Draws a batch: observations, actions, rewards.
    pub fn draw(&mut self) -> [Vec<f64>; 3] {
        self.machine.poison();
        self.machine.run(self.programs[2]).expect("run");
        self.sample.map(|v| self.machine.real(v).iter().map(|x| x.value()).collect())
    }

    pub fn counter(&self, c: Counter) -> usize {
        self.machine.index(self.vars.counters)[c as usize] as usize
    }

    pub fn ready(&self) -> usize {
        self.machine.index(self.vars.ready)[0] as usize
    }

    /// First row and rows of the episodes in the directory, the oldest first.
    pub fn episodes(&self) -> Vec<(usize, usize)> {
        let entries = self.machine.index(self.vars.directory);
        let len = self.vars.spec.directory_len();
        (0..self.counter(Counter::Count))
            .map(|i| {
                let e = &entries[(self.counter(Counter::Head) + i) % len * 3..][..3];
                (e[0] as usize, e[1] as usize)
            })
            .collect()
    }
}

/// A row: observation, action, reward.
pub type Row = Vec<f64>;

/// The replay as lists: every episode ever, every row ever.
pub struct Model {
    spec: ReplaySpec,
    pub rows: Vec<Row>,
    /// First row and rows.
    pub episodes: Vec<(usize, usize)>,
    pub staging: Vec<Vec<Row>>,
    draws: u64,
}

impl Model {
    pub fn new(spec: &ReplaySpec) -> Self {
        Self { spec: spec.clone(), rows: vec![], episodes: vec![], staging: vec![vec![]; spec.num_envs], draws: 0 }
    }

    pub fn begin(&mut self, obs: &[f64]) {
        for n in 0..self.spec.num_envs {
            self.staging[n] = vec![self.first(obs, n)];
        }
    }

    fn first(&self, obs: &[f64], n: usize) -> Row {
        let o = self.spec.obs_dim;
        [&obs[n * o..][..o], &vec![f64::NAN; self.spec.act_dim + 1]].concat()
    }

    pub fn record(&mut self, [obs, act, rew, done, next]: [&[f64]; 5]) {
        let (o, a) = (self.spec.obs_dim, self.spec.act_dim);
        for n in 0..self.spec.num_envs {
            self.staging[n].push([&obs[n * o..][..o], &act[n * a..][..a], &rew[n..][..1]].concat());
            if done[n] == 1.0 || self.staging[n].len() == self.spec.staging_rows {
                let fresh = self.first(next, n);
                let episode = std::mem::replace(&mut self.staging[n], vec![fresh]);
                self.episodes.push((self.rows.len(), episode.len()));
                self.rows.extend(episode);
            }
        }
    }

    /// Readable episodes with a window, the oldest first.
    pub fn eligible(&self) -> Vec<(usize, usize)> {
        let oldest = self.rows.len().saturating_sub(self.spec.capacity);
        (self.episodes.iter())
            .map(|&(start, rows)| (start.max(oldest), (start + rows).saturating_sub(start.max(oldest))))
            .filter(|&(_, rows)| rows > self.spec.horizon)
            .collect()
    }

    /// Episodes that can be drawn from, as lists of rows.
    fn candidates(&self) -> Vec<&[Row]> {
        let mut all: Vec<&[Row]> = self.eligible().iter().map(|&(s, n)| &self.rows[s..s + n]).collect();
        if self.spec.unfinished {
            all.extend(self.staging.iter().filter(|s| s.len() > self.spec.horizon).map(|s| &s[..]));
        }
        all
    }

    pub fn ready(&self) -> usize {
        self.candidates().iter().map(|c| c.len() - self.spec.horizon).sum()
    }

    /// The batch that the next draw must return.
    pub fn draw(&mut self) -> [Vec<f64>; 3] {
        let (h, batch) = (self.spec.horizon, self.spec.batch);
        let (o, a) = (self.spec.obs_dim, self.spec.act_dim);
        let rng = Philox::new(self.spec.seed, Stream::Replay);
        let below =
            |n: usize, hi: u32, lo: u32| ((((u128::from(hi) << 32) | u128::from(lo)) * n as u128) >> 64) as usize;
        let candidates = self.candidates();
        let mut out = [vec![0.0; (h + 1) * batch * o], vec![0.0; h * batch * a], vec![0.0; h * batch]];
        for b in 0..batch {
            if candidates.is_empty() {
                break;
            }
            let bits = rng.bits(self.draws, b as u32);
            let window = match self.spec.sampling {
                Sampling::Episode => {
                    let e = candidates[below(candidates.len(), bits[0], bits[1])];
                    &e[below(e.len() - h, bits[2], bits[3])..]
                }
                Sampling::Row => {
                    let mut i = below(self.ready(), bits[0], bits[1]);
                    let mut found = None;
                    for c in &candidates {
                        if i < c.len() - h {
                            found = Some(&c[i..]);
                            break;
                        }
                        i -= c.len() - h;
                    }
                    found.expect("a start")
                }
            };
            for (t, row) in window[..=h].iter().enumerate() {
                out[0][(t * batch + b) * o..][..o].copy_from_slice(&row[..o]);
                if t > 0 {
                    out[1][((t - 1) * batch + b) * a..][..a].copy_from_slice(&row[o..o + a]);
                    out[2][(t - 1) * batch + b] = row[o + a];
                }
            }
        }
        self.draws += 1;
        out
    }
}
