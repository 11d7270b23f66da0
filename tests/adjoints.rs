//! Every hand-written adjoint against dual numbers: one table, one line an operation and shape.

#[path = "support/gradcheck.rs"]
mod gradcheck;

use gradcheck::{check, input};
use pwm::ops::linear::{Epilogue, LayerVals, linear, transpose};

const TOLERANCE: f64 = 1e-12;

#[test]
fn linear_layers() {
    let epilogues = [Epilogue::Bias, Epilogue::NormMish, Epilogue::NormSimplex { group: 8 }, Epilogue::MishNorm];
    for epilogue in epilogues {
        for (e, m, n, parts, shared) in [
            (1, 1, 8, vec![3], true),
            (1, 33, 40, vec![5, 2], true),
            (1, 64, 16, vec![17], true),
            (3, 33, 24, vec![7], true),
            (3, 65, 8, vec![9], false),
        ] {
            let k: usize = parts.iter().sum();
            let lead = |s: &[usize]| if e > 1 { [&[e], s].concat() } else { s.to_vec() };
            let x = |w: usize| if shared { vec![m, w] } else { vec![e, m, w] };
            let mut inputs = vec![input(&lead(&[n, k])), input(&lead(&[n])), input(&lead(&[n])), input(&lead(&[n]))];
            inputs.extend(parts.iter().map(|&w| input(&x(w))));
            if epilogue == Epilogue::Bias {
                inputs[2].wanted = false;
                inputs[3].wanted = false;
            }
            check(&format!("{epilogue:?} {e}x{m}x{n} {parts:?}"), &inputs, TOLERANCE, |p, _, v| {
                let transposed = transpose(p, v[0]);
                let norm = epilogue.has_norm().then_some((v[2], v[3]));
                let layer = LayerVals { weight: v[0], transposed, bias: v[1], norm };
                vec![linear(p, &v[4..], &layer, epilogue, true, None)]
            });
        }
    }
}

#[test]
fn shared_weights_accumulate() {
    // The same layer twice: its gradient is the sum over both uses.
    check("twice", &[input(&[8, 8]), input(&[8]), input(&[5, 8])], TOLERANCE, |p, _, v| {
        let transposed = transpose(p, v[0]);
        let layer = LayerVals { weight: v[0], transposed, bias: v[1], norm: None };
        let y = linear(p, &[v[2]], &layer, Epilogue::Bias, true, None);
        vec![linear(p, &[y], &layer, Epilogue::Bias, true, None), y]
    });
}

#[test]
fn stacked_views_join() {
    // Rows of one buffer, written one by one, read as a whole.
    check("stack", &[input(&[8, 8]), input(&[8]), input(&[4, 8])], TOLERANCE, |p, _, v| {
        let transposed = transpose(p, v[0]);
        let layer = LayerVals { weight: v[0], transposed, bias: v[1], norm: None };
        let stack = p.real(&[3, 4, 8]);
        let mut x = v[2];
        for t in 0..3 {
            let out = p.at(stack, t);
            x = linear(p, &[x], &layer, Epilogue::Bias, true, Some(out));
        }
        let flat = p.reshape(stack, &[12, 8]);
        vec![linear(p, &[flat], &layer, Epilogue::Bias, true, None)]
    });
}
