//! A small reader of exported weights: safetensors and the recipes in it, in double precision and with no other code.

use std::collections::{BTreeMap, HashMap};

use safetensors::SafeTensors;
use serde_json::Value;

/// An exported file.
pub struct Exported {
    pub tensors: BTreeMap<String, (Vec<usize>, Vec<f64>)>,
    pub meta: HashMap<String, String>,
}

pub fn read(bytes: &[u8]) -> Exported {
    let (_, header) = SafeTensors::read_metadata(bytes).unwrap();
    let mut tensors = BTreeMap::new();
    for (name, view) in SafeTensors::deserialize(bytes).unwrap().iter() {
        let numbers = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()).into()).collect();
        tensors.insert(name.to_string(), (view.shape().to_vec(), numbers));
    }
    Exported { tensors, meta: header.metadata().clone().unwrap() }
}

/// Named inputs of one row.
pub type Inputs<'a> = HashMap<&'a str, Vec<f64>>;

impl Exported {
    /// What the recipe called `of` makes of one row.
    pub fn run(&self, of: &str, inputs: &Inputs) -> Vec<f64> {
        let recipe: Value = serde_json::from_str(&self.meta[&format!("recipe.{of}")]).unwrap();
        self.steps(&recipe["steps"], join(&recipe["inputs"], inputs), inputs)
    }

    fn steps(&self, steps: &Value, x: Vec<f64>, inputs: &Inputs) -> Vec<f64> {
        steps.as_array().unwrap().iter().fold(x, |x, step| self.step(step, x, inputs))
    }

    fn step(&self, step: &Value, x: Vec<f64>, inputs: &Inputs) -> Vec<f64> {
        let tensor = |key: &str| &self.tensors[step[key].as_str().unwrap()].1;
        let number = |key: &str| step[key].as_f64().unwrap();
        let groups = || step["group"].as_u64().unwrap() as usize;
        match step["op"].as_str().unwrap() {
            "normalise" => {
                let scale = |(x, (m, v)): (&f64, (&f64, &f64))| (x - m) / (v + number("eps")).sqrt();
                let clamp = number("clamp");
                x.iter().zip(tensor("mean").iter().zip(tensor("var"))).map(|t| scale(t).clamp(-clamp, clamp)).collect()
            }
            "linear" => {
                let rows = tensor("weight").chunks_exact(x.len());
                rows.zip(tensor("bias")).map(|(w, b)| b + w.iter().zip(&x).map(|(w, x)| w * x).sum::<f64>()).collect()
            }
            "layer_norm" => {
                let n = x.len() as f64;
                let mean = x.iter().sum::<f64>() / n;
                let var = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
                let gain = tensor("weight").iter().zip(tensor("bias"));
                x.iter().zip(gain).map(|(x, (g, b))| g * (x - mean) / (var + number("eps")).sqrt() + b).collect()
            }
            "mish" => x.iter().map(|x| x * x.exp().ln_1p().tanh()).collect(),
            "tanh" => x.iter().map(|x| x.tanh()).collect(),
            "symexp" => x.iter().map(|x| x.signum() * x.abs().exp_m1()).collect(),
            "scale" => x.iter().map(|x| x * number("by")).collect(),
            "add" => x.iter().zip(&inputs[step["input"].as_str().unwrap()]).map(|(x, y)| x + y).collect(),
            "simnorm" => x.chunks_exact(groups()).flat_map(softmax).collect(),
            "remove_group_means" => {
                let centred = |g: &[f64]| {
                    let mean = g.iter().sum::<f64>() / g.len() as f64;
                    g.iter().map(|x| x - mean).collect::<Vec<_>>()
                };
                x.chunks_exact(groups()).flat_map(centred).collect()
            }
            "project_simplex" => x.chunks_exact(groups()).flat_map(simplex).collect(),
            "expectation" => {
                let (from, to, last) = (number("from"), number("to"), number("bins") - 1.0);
                let p = softmax(&x);
                vec![p.iter().enumerate().map(|(i, p)| p * (from + (to - from) * i as f64 / last)).sum()]
            }
            "minimum" => {
                let each = step["of"].as_array().unwrap().iter().map(|s| self.steps(s, x.clone(), inputs)[0]);
                vec![each.fold(f64::INFINITY, f64::min)]
            }
            "integrate" => self.integrate(step, &x, inputs),
            other => panic!("unknown step {other}"),
        }
    }

    fn integrate(&self, step: &Value, x: &[f64], inputs: &Inputs) -> Vec<f64> {
        let k = step["substeps"].as_u64().unwrap();
        let h = 1.0 / k as f64;
        let mut state = match step["start"].as_str().unwrap() {
            "zeros" => vec![0.0; step["width"].as_u64().unwrap() as usize],
            input => inputs[input].clone(),
        };
        let along =
            |state: &[f64], v: &[f64], h: f64| -> Vec<f64> { state.iter().zip(v).map(|(x, v)| x + h * v).collect() };
        for i in 0..k {
            let tau = i as f64 * h;
            let field = |state: &[f64], tau: f64| {
                let mut named = inputs.clone();
                named.entry("latent").or_insert_with(|| x.to_vec());
                named.insert("state", state.to_vec());
                named.insert("time", vec![tau]);
                self.steps(&step["field"], join(&step["inputs"], &named), &named)
            };
            let v1 = field(&state, tau);
            state = match step["integrator"].as_str().unwrap() {
                "euler" => along(&state, &v1, h),
                "heun" => {
                    let v2 = field(&along(&state, &v1, h), tau + h);
                    along(&along(&state, &v1, h / 2.0), &v2, h / 2.0)
                }
                "rk4" => {
                    let v2 = field(&along(&state, &v1, h / 2.0), tau + h / 2.0);
                    let v3 = field(&along(&state, &v2, h / 2.0), tau + h / 2.0);
                    let v4 = field(&along(&state, &v3, h), tau + h);
                    let weighted = [(&v1, 1.0), (&v2, 2.0), (&v3, 2.0), (&v4, 1.0)];
                    weighted.iter().fold(state.clone(), |x, (v, w)| along(&x, v, h * w / 6.0))
                }
                other => panic!("unknown integrator {other}"),
            };
        }
        state
    }
}

fn join(names: &Value, inputs: &Inputs) -> Vec<f64> {
    names.as_array().unwrap().iter().flat_map(|n| inputs[n.as_str().unwrap()].clone()).collect()
}

fn softmax(x: &[f64]) -> Vec<f64> {
    let top = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let e: Vec<f64> = x.iter().map(|x| (x - top).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.iter().map(|e| e / sum).collect()
}

/// Euclidean projection onto the probability simplex.
fn simplex(x: &[f64]) -> Vec<f64> {
    let mut sorted = x.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let (mut sum, mut theta) = (0.0, 0.0);
    for (i, u) in sorted.iter().enumerate() {
        sum += u;
        let t = (sum - 1.0) / (i + 1) as f64;
        if u - t > 0.0 {
            theta = t;
        }
    }
    x.iter().map(|x| (x - theta).max(0.0)).collect()
}
