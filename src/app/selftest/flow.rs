//! Flow dynamics, their integrators and their losses.

use super::lab::{Case, case};
use super::linear::layer;
use crate::config::Integrator;
use crate::ops::flow::matching::{interpolate, velocity_error};
use crate::ops::flow::simplex::{project, tangent};
use crate::ops::flow::{InputPart, Steps, VelocityField, integrate};
use crate::ops::linear::Epilogue;

pub(super) fn flow_cases(list: &mut Vec<Case>) {
    const PARTS: [InputPart; 3] = [InputPart::State, InputPart::Fixed(0), InputPart::Time];
    use Integrator::{Euler, Heun, Rk4};
    // Rows, state, fixed input, hidden layers: around the edges of the tiles.
    let sizes: [(usize, [usize; 2], &[usize]); 3] =
        [(1, [8, 1], &[24]), (17, [40, 3], &[33, 40]), (9, [264, 8], &[257, 16])];
    for (integrator, substeps, keep) in
        [(Euler, 1, true), (Euler, 3, false), (Heun, 1, true), (Heun, 2, true), (Rk4, 2, false), (Rk4, 3, true)]
    {
        for (rows, [state, fixed], hidden) in sizes {
            for (head, last, group) in [
                ("tangent", Epilogue::Bias, Some(8)),
                ("linear", Epilogue::Bias, None),
                ("simnorm", Epilogue::NormSimplex { group: 8 }, None),
            ] {
                let name = format!("flow {integrator} {substeps} {head} {rows}x{state} kept {keep}");
                list.push(case(name, move |l| {
                    let mut inputs = state + fixed + 1;
                    let mut layers = vec![];
                    for &n in hidden {
                        layers.push((layer(l, 1, n, inputs, true), Epilogue::NormMish));
                        inputs = n;
                    }
                    layers.push((layer(l, 1, state, inputs, last.has_norm()), last));
                    let field = VelocityField { layers: &layers, parts: &PARTS, tangent: group };
                    let steps = Steps { integrator, substeps };
                    let (z, a) = (l.leaf(&[rows, state]), l.leaf(&[rows, fixed]));
                    let y = integrate(&mut l.p, &field, steps, z, &[a], keep, None);
                    // Once more, from there: gradients add up.
                    let y = integrate(&mut l.p, &field, steps, y, &[a], keep, None);
                    l.follow(y);
                }));
            }
        }
    }
    // Rows for `product_tma`; a first layer whose lines are multiples of nothing, and one whose weight is kept rounded.
    for (rows, state, fixed, hidden) in [(8203, 40, 4, 36), (2730, 256, 7, 264)] {
        list.push(case(format!("flow heun 1 tangent {rows}x{state}"), move |l| {
            let layers = [
                (layer(l, 1, hidden, state + fixed + 1, true), Epilogue::NormMish),
                (layer(l, 1, state, hidden, false), Epilogue::Bias),
            ];
            let field = VelocityField { layers: &layers, parts: &PARTS, tangent: Some(8) };
            let steps = Steps { integrator: Heun, substeps: 1 };
            let (z, a) = (l.leaf(&[rows, state]), l.leaf(&[rows, fixed]));
            let y = integrate(&mut l.p, &field, steps, z, &[a], true, None);
            l.follow(y);
        }));
    }
    // Groups of one, whose means are all there is; of which a block has many; that lie across blocks.
    for group in [1, 4, 12] {
        list.push(case(format!("flow in groups of {group} 17x48"), move |l| {
            let layers =
                [(layer(l, 1, 33, 48 + 3 + 1, true), Epilogue::NormMish), (layer(l, 1, 48, 33, false), Epilogue::Bias)];
            let field = VelocityField { layers: &layers, parts: &PARTS, tangent: Some(group) };
            let (z, a) = (l.leaf(&[17, 48]), l.leaf(&[17, 3]));
            let y = integrate(&mut l.p, &field, Steps { integrator: Heun, substeps: 2 }, z, &[a], true, None);
            l.follow(y);
        }));
    }
    list.push(case("flow of a state and time alone 17x16", |l| {
        let layers = [(layer(l, 1, 33, 17, true), Epilogue::NormMish), (layer(l, 1, 16, 33, false), Epilogue::Bias)];
        let field = VelocityField { layers: &layers, parts: &[InputPart::State, InputPart::Time], tangent: None };
        let z = l.leaf(&[17, 16]);
        let y = integrate(&mut l.p, &field, Steps { integrator: Heun, substeps: 2 }, z, &[], true, None);
        l.follow(y);
    }));
    // State, time and as many fixed inputs as a policy of many tasks has.
    list.push(case("flow of five inputs 17x16", |l| {
        let parts = [InputPart::Fixed(0), InputPart::State, InputPart::Fixed(1), InputPart::Time, InputPart::Fixed(2)];
        let layers = [
            (layer(l, 1, 33, 16 + 1 + 3 + 8 + 2, true), Epilogue::NormMish),
            (layer(l, 1, 16, 33, false), Epilogue::Bias),
        ];
        let field = VelocityField { layers: &layers, parts: &parts, tangent: None };
        let (z, fixed) = (l.leaf(&[17, 16]), [3, 8, 2].map(|k| l.leaf(&[17, k])));
        let y = integrate(&mut l.p, &field, Steps { integrator: Heun, substeps: 2 }, z, &fixed, true, None);
        l.follow(y);
    }));
    for (t, rows, d) in [(1, 1, 8), (3, 70, 16), (66, 5, 24)] {
        list.push(case(format!("flow matching {t}x{rows}x{d}"), move |l| {
            let shape = [t * rows, d];
            let (v, z0, z1) = (l.leaf(&shape), l.leaf(&shape), l.real(&shape));
            let tau = l.real(&[t * rows, 1]);
            let between = interpolate(&mut l.p, z0, z1, tau);
            l.follow(between);
            let v = tangent(&mut l.p, v, 8);
            l.follow(v);
            let weights = (0..t).map(|i| 0.5 + i as f64).collect();
            let e = velocity_error(&mut l.p, v, z0, z1, weights);
            l.follow(e);
            let on = project(&mut l.p, z0, 4, None);
            l.follow(on);
        }));
    }
}
