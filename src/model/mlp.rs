//! Stacks of fully connected layers.

use super::params::{GroupBuilder, Init, Param, ParamGroup};
use crate::ops::linear::{Epilogue, LayerVals, linear, transpose};
use crate::tape::{Program, Val, Vars};

/// How a stack's layers start.
#[derive(Clone, Copy, Debug)]
pub struct MlpInit {
    /// Weight of a layer with this fan-in.
    pub weight: fn(usize, f64) -> Init,
    /// Bias of a layer with this fan-in.
    pub bias: fn(usize, f64) -> Init,
    /// Factor on everything, norms included.
    pub gain: f64,
}

#[derive(Clone, Debug)]
struct Layer {
    weight: Param,
    bias: Param,
    norm: Option<(Param, Param)>,
    epilogue: Epilogue,
}

/// The parameters of a stack.
#[derive(Clone, Debug)]
pub struct Mlp {
    layers: Vec<Layer>,
}

/// What a stack looks like.
#[derive(Clone, Debug)]
pub struct MlpSpec<'a> {
    pub name: &'a str,
    /// 1, or the members of an ensemble whose parameters are stacked.
    pub ensemble: usize,
    pub inputs: usize,
    pub hidden: &'a [usize],
    pub outputs: usize,
    pub hidden_epilogue: Epilogue,
    pub last_epilogue: Epilogue,
}

impl Mlp {
    pub fn new(group: &mut GroupBuilder, spec: &MlpSpec, init: MlpInit) -> Self {
        let lead = |s: &[usize]| if spec.ensemble > 1 { [&[spec.ensemble], s].concat() } else { s.to_vec() };
        let mut layers = vec![];
        let mut k = spec.inputs;
        for (i, &n) in spec.hidden.iter().chain([&spec.outputs]).enumerate() {
            let epilogue = if i == spec.hidden.len() { spec.last_epilogue } else { spec.hidden_epilogue };
            let name = |what: &str| format!("{}.{i}.{what}", spec.name);
            let weight = group.add(name("weight"), &lead(&[n, k]), (init.weight)(k, init.gain));
            let bias = group.add(name("bias"), &lead(&[n]), (init.bias)(k, init.gain));
            let norm = epilogue.has_norm().then(|| {
                let gain = group.add(name("ln.weight"), &lead(&[n]), Init::Constant(init.gain));
                (gain, group.add(name("ln.bias"), &lead(&[n]), Init::Constant(0.0)))
            });
            layers.push(Layer { weight, bias, norm, epilogue });
            k = n;
        }
        Self { layers }
    }

    /// The epilogue of each layer.
    pub fn epilogues(&self) -> impl Iterator<Item = Epilogue> + '_ {
        self.layers.iter().map(|l| l.epilogue)
    }

    /// The stack's parameters as values of `p`, with transposed copies of the weights made once.
    pub fn bind(&self, p: &mut Program, vars: &Vars, group: &ParamGroup) -> BoundMlp {
        let mut layers = vec![];
        for l in &self.layers {
            let weight = group.val(p, vars, l.weight);
            let transposed = transpose(p, weight);
            let bias = group.val(p, vars, l.bias);
            let norm = l.norm.map(|(g, s)| (group.val(p, vars, g), group.val(p, vars, s)));
            layers.push((LayerVals { weight, transposed, bias, norm }, l.epilogue));
        }
        BoundMlp { layers }
    }
}

/// A stack inside a program.
#[derive(Clone, Debug)]
pub struct BoundMlp {
    layers: Vec<(LayerVals, Epilogue)>,
}

impl BoundMlp {
    /// The layers, for operations that run the stack themselves.
    pub fn layers(&self) -> &[(LayerVals, Epilogue)] {
        &self.layers
    }

    /// Appends the stack on the concatenation of `xs` (`[M, k]` each); `save` keeps what the reverse pass needs; the
    /// result goes to `out` if given.
    pub fn apply(&self, p: &mut Program, xs: &[Val], save: bool, out: Option<Val>) -> Val {
        let mut x: Vec<Val> = xs.to_vec();
        let last = self.layers.len() - 1;
        for (i, (layer, epilogue)) in self.layers.iter().enumerate() {
            x = vec![linear(p, &x, layer, *epilogue, save, if i == last { out } else { None })];
        }
        x[0]
    }
}
