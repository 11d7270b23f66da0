//! World models of many tasks against the reference (`pwm/h_multitask`): a row's task is an embedding, one more input of
//! every network, in the order that each kind of dynamics has; rows of the table that are longer than 1 are shortened
//! when they are looked up.

use crate::support::golden::{Array, Golden};
use crate::support::lab::{Lab, Score, config, fill_nets, world_name};
use pwm::algo::pwm::PwmNets;
use pwm::ops::sum::sum;
use pwm::tape::{DType, Region, TapeReal, Val};

/// Tasks by number, as an index value.
fn index(lab: &mut Lab, name: &str, ids: Vec<f64>) -> Val {
    let var = lab.vars.add(Region::RolloutBuffers, name, DType::Index, &[ids.len()]);
    lab.fill(var, ids);
    lab.p.var(&lab.vars, var)
}

/// The rows of a time-major array as one batch.
fn flat(lab: &mut Lab, a: Array) -> Val {
    let shape = [a.shape[0] * a.shape[1], a.shape[2]];
    lab.input(&a.name, &shape, a.values)
}

fn golden<F: TapeReal>(kind: &str, velocity: bool) {
    let g = Golden::open("pwm/h_multitask");
    let mut score = Score::new::<F>(&g);
    let mut lab = Lab::new();
    let prefix = format!("{kind}/p/");
    let table = g.array(&format!("{prefix}_task_emb.weight"));
    let (count, task_dim) = (table.shape[0], table.shape[1]);
    let tasks: Vec<String> = (0..count).map(|i| format!("task-{i}")).collect();
    let c = pwm::config::Config { tasks, task_dim, ..config(&g, &prefix, "-", "-") };
    let nets = PwmNets::new(&mut lab.vars, &c, g.array("obs").shape[1], g.array("a").shape[1]);
    fill_nets(&mut lab, &g, &nets, &prefix, "-", "-");

    let ids = g.get("task");
    let steps = g.array("z3").shape[0];
    let (once, often) = (index(&mut lab, "ids", ids.clone()), index(&mut lab, "ids3", ids.repeat(steps)));
    let [z, a, tau, obs] = ["z", "a", "tau", "obs"].map(|n| lab.array(&g.array(n)));
    let [z3, a3, obs3] = ["z3", "a3", "obs3"].map(|n| flat(&mut lab, g.array(n)));
    let world = nets.world.bind(&mut lab.p, &lab.vars);
    let task = nets.world.rows(&mut lab.p, &lab.vars, Some(once)).embedding;
    let task3 = nets.world.rows(&mut lab.p, &lab.vars, Some(often)).embedding;
    let p = &mut lab.p;
    let next = world.next(p, z, a, task, true, None);
    let latent = world.encoder.apply(p, obs, task, true, None);
    let mut kept = vec![
        ("next", next),
        ("encode", latent),
        ("reward", world.reward(p, z, a, task, true)),
        ("encode3", world.encoder.apply(p, obs3, task3, false, None)),
        ("reward3", world.reward(p, z3, a3, task3, false)),
    ];
    assert_eq!(world.flow().is_some(), velocity);
    kept.extend(world.flow().map(|f| ("velocity", f.velocity(p, z, a, tau, task, false))));
    for (name, v) in &kept {
        lab.keep(name, *v);
    }
    let both = sum(&mut lab.p, next, latent, None);
    let root = lab.weighed(&g.array("gy"), both);
    let group = &nets.world.group;
    let mut of: Vec<(String, Val)> = vec![];
    for e in &group.entries {
        let name = format!("{kind}/g/{}", world_name(&e.name));
        if g.has(&format!("{name}.f64")) {
            of.push((name, lab.p.var_at(&lab.vars, group.params, e.offset, &e.shape)));
        }
    }
    let networks = of.len();
    of.push((format!("{kind}/dz"), z));
    lab.gradients(root, &of);

    let run = lab.run::<F>();
    for (name, _) in &kept {
        score.check(&format!("{kind}/{name}"), &run.get(name));
    }
    for (name, _) in &of {
        score.check(name, &run.get(name));
    }
    // Two layers of the encoder, three of the dynamics, and the embeddings.
    assert_eq!(networks, 4 * 5 + 1, "{of:?}");
    // What is in the file after a look-up is what is in the table.
    let e = group.entries.iter().find(|e| e.name == "task_emb.weight").expect("embeddings");
    let after = &run.var(group.params)[e.offset..e.offset + e.len()];
    score.check(&format!("{kind}/task_emb_after_forward"), after);
    assert!(table.values.chunks(task_dim).any(|row| row.iter().map(|x| x * x).sum::<f64>() > 1.0));
    score.finish(&format!("many tasks, {kind}"));
}

#[test]
fn golden_model_of_many_tasks() {
    golden::<f64>("mlp", false);
    golden::<f64>("flow", true);
}

#[test]
fn golden_model_of_many_tasks_f32() {
    golden::<f32>("mlp", false);
    golden::<f32>("flow", true);
}
