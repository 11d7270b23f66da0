//! A flow model of many tasks against the reference (`pwm/h_multitask`): a row's task is an embedding, one more input
//! of every network, and the velocity field takes it as a second fixed input, after model time.
//!
//! The reference shortens rows of its table that are longer than 1 when it looks them up; what it then holds is in the
//! file.

use crate::support::golden::Golden;
use crate::support::lab::{Lab, Score};
use pwm::config::Integrator;
use pwm::ops::flow::{InputPart, Steps, VelocityField, integrate};
use pwm::ops::linear::{Epilogue, LayerVals, linear, transpose};
use pwm::ops::sum::sum;
use pwm::tape::{TapeReal, Val};

const SIMNORM: Epilogue = Epilogue::NormSimplex { group: 8 };

/// A network of the file, and its parameters by the names of their gradients.
struct Network {
    layers: Vec<(LayerVals, Epilogue)>,
    parameters: Vec<(String, Val)>,
}

fn network(lab: &mut Lab, g: &Golden, name: &str, last: Epilogue) -> Network {
    let count = (0..).take_while(|i| g.has(&format!("flow/p/{name}.{i}.weight"))).count();
    let mut n = Network { layers: vec![], parameters: vec![] };
    for i in 0..count {
        let epilogue = if i + 1 == count { last } else { Epilogue::NormMish };
        let mut parameter = |lab: &mut Lab, what: &str| {
            let v = lab.array(&g.array(&format!("flow/p/{name}.{i}.{what}")));
            n.parameters.push((format!("flow/g/{name}.{i}.{what}"), v));
            v
        };
        let (weight, bias) = (parameter(lab, "weight"), parameter(lab, "bias"));
        let norm = epilogue.has_norm().then(|| (parameter(lab, "ln.weight"), parameter(lab, "ln.bias")));
        let transposed = transpose(&mut lab.p, weight);
        n.layers.push((LayerVals { weight, transposed, bias, norm }, epilogue));
    }
    n
}

impl Network {
    fn apply(&self, lab: &mut Lab, xs: &[Val]) -> Val {
        let first = xs.to_vec();
        self.layers.iter().fold(first, |x, (l, e)| vec![linear(&mut lab.p, &x, l, *e, true, None)])[0]
    }
}

/// The embeddings of `tasks`, `times` over.
fn embedded(g: &Golden, tasks: &[f64], times: usize) -> (Vec<usize>, Vec<f64>) {
    let table = g.want("flow/task_emb_after_forward");
    let width = table.shape[1];
    let rows: Vec<f64> = tasks.iter().flat_map(|&t| table.values[t as usize * width..][..width].to_vec()).collect();
    (vec![times * tasks.len(), width], rows.repeat(times))
}

fn flow<F: TapeReal>() {
    let g = Golden::open("pwm/h_multitask");
    let mut score = Score::new::<F>(&g);
    let mut lab = Lab::new();
    let [velocity, encoder, reward] = [("_velocity", SIMNORM), ("_encoder", SIMNORM), ("_reward", Epilogue::Bias)]
        .map(|(name, last)| network(&mut lab, &g, name, last));
    let tasks = g.get("task");
    let (shape, rows) = embedded(&g, &tasks, 1);
    let task = lab.input("embedding", &shape, rows);
    let [z, a, tau, obs] = ["z", "a", "tau", "obs"].map(|n| lab.array(&g.array(n)));

    let parts = [InputPart::State, InputPart::Fixed(0), InputPart::Time, InputPart::Fixed(1)];
    let field = VelocityField { layers: &velocity.layers, parts: &parts, tangent: None };
    let steps = Steps { integrator: Integrator::Heun, substeps: 2 };
    let next = integrate(&mut lab.p, &field, steps, z, &[a, task], true, None);
    let latent = encoder.apply(&mut lab, &[obs, task]);
    let at_tau = velocity.apply(&mut lab, &[z, a, tau, task]);
    let rewards = reward.apply(&mut lab, &[z, a, task]);

    // Windows: the task of a column is that of all its steps.
    let windows = g.array("z3").shape[0];
    let (shape, rows) = embedded(&g, &tasks, windows);
    let task3 = lab.input("embedding3", &shape, rows);
    let [z3, a3, obs3] = ["z3", "a3", "obs3"].map(|n| {
        let all = g.array(n);
        lab.input(n, &[all.shape[0] * all.shape[1], all.shape[2]], all.values)
    });
    let latents3 = encoder.apply(&mut lab, &[obs3, task3]);
    let rewards3 = reward.apply(&mut lab, &[z3, a3, task3]);

    let kept = [next, latent, at_tau, rewards, latents3, rewards3];
    let names = ["next", "encode", "velocity", "reward", "encode3", "reward3"];
    for (name, v) in names.iter().zip(kept) {
        lab.keep(name, v);
    }
    let both = sum(&mut lab.p, next, latent, None);
    let root = lab.weighed(&g.array("gy"), both);
    let mut of = [velocity.parameters, encoder.parameters].concat();
    let networks = of.len();
    of.extend([("flow/dz".into(), z), ("embedding".into(), task)]);
    lab.gradients(root, &of);

    let run = lab.run::<F>();
    for name in names {
        score.check(&format!("flow/{name}"), &run.get(name));
    }
    for (name, _) in &of[..=networks] {
        score.check(name, &run.get(name));
    }
    // A row of the table serves all rows of its task.
    let table = g.want("flow/task_emb_after_forward");
    let (mut all, width) = (vec![0.0; table.values.len()], table.shape[1]);
    for (row, &t) in run.get("embedding").chunks_exact(width).zip(&tasks) {
        for (sum, x) in all[t as usize * width..][..width].iter_mut().zip(row) {
            *sum += x;
        }
    }
    score.check("flow/g/_task_emb.weight", &all);
    score.finish("many tasks");
}

#[test]
fn golden_flow_of_many_tasks() {
    flow::<f64>();
}

#[test]
fn golden_flow_of_many_tasks_f32() {
    flow::<f32>();
}
