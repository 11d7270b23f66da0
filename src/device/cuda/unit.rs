//! Launches gathered into sources. A kernel is a function template over sizes; a unit is one file with an entry point
//! for each instance that the programs of a run launch, so that loops unroll and constants fold.

use super::launch::{GeneratedHeader, Launch};
use crate::device::numerics;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::LazyLock;

// `FILES`: the build script lists what is there.
include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// A source with the instances that are asked of it.
#[derive(Clone, Debug)]
pub struct Unit {
    pub file: &'static str,
    pub headers: Vec<GeneratedHeader>,
    /// Entry points by name: one launch of each.
    instances: BTreeMap<String, Launch>,
}

impl Unit {
    pub fn symbols(&self) -> impl Iterator<Item = &str> {
        self.instances.keys().map(String::as_str)
    }

    /// The translation unit: includes the file, then one entry point an instance.
    pub fn source(&self) -> String {
        let mut s = format!("#include \"{}\"\n#ifndef EXPORT\n#define EXPORT(name, cluster)\n#endif\n", self.file);
        for (symbol, launch) in &self.instances {
            let k = &launch.kernel;
            let typed: Vec<_> = k.params.iter().enumerate().map(|(i, c)| format!("{c} a{i}")).collect();
            let names: Vec<_> = (0..k.params.len()).map(|i| format!("a{i}")).collect();
            let template: Vec<_> = launch.template.iter().map(i64::to_string).collect();
            let template = if template.is_empty() { String::new() } else { format!("<{}>", template.join(", ")) };
            let cluster = if launch.cluster > 1 { format!(" CLUSTER({})", launch.cluster) } else { String::new() };
            let _ = writeln!(
                s,
                "extern \"C\" __global__ void{cluster} __launch_bounds__({}, 1) {symbol}({}) {{ {}{template}({}); }}\nEXPORT({symbol}, {})",
                launch.threads,
                typed.join(", "),
                k.name,
                names.join(", "),
                launch.cluster,
            );
        }
        s
    }

    /// What the source includes: name and text of every file it may ask for.
    pub fn headers(&self) -> Vec<(&str, &str)> {
        static NUMERICS: LazyLock<String> = LazyLock::new(numerics::header);
        let own = self.headers.iter().map(|h| (h.name, &*h.text));
        FILES.iter().copied().chain([(numerics::HEADER, &**NUMERICS)]).chain(own).collect()
    }

    /// For messages.
    pub fn describe(&self) -> String {
        format!("kernels/{} ({} instances)", self.file, self.instances.len())
    }
}

/// One unit for each file, and for each set of headers it is compiled with. Second, for each launch its unit.
pub fn units<'a>(launches: impl IntoIterator<Item = &'a Launch>) -> (Vec<Unit>, Vec<usize>) {
    let mut units: Vec<Unit> = Vec::new();
    let mut which = Vec::new();
    for launch in launches {
        let file = launch.kernel.file;
        let at = units.iter().position(|u| u.file == file && u.headers == launch.headers).unwrap_or_else(|| {
            units.push(Unit { file, headers: launch.headers.clone(), instances: BTreeMap::new() });
            units.len() - 1
        });
        units[at].instances.entry(launch.symbol()).or_insert_with(|| launch.clone());
        which.push(at);
    }
    (units, which)
}
