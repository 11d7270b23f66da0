//! The configurations that come with the program, held inside it so that it works from any folder.

/// What a file configures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Env,
    Alg,
}

impl Kind {
    /// The key that chooses it, which is also its folder under `configs/`.
    pub fn key(self) -> &'static str {
        match self {
            Kind::Env => "env",
            Kind::Alg => "alg",
        }
    }
}

/// One shipped file.
pub struct Shipped {
    pub kind: Kind,
    pub name: &'static str,
    pub text: &'static str,
}

macro_rules! algs {
    ($($name:literal),+ $(,)?) => {
        &[
            Shipped { kind: Kind::Env, name: "ant", text: include_str!("../../configs/env/ant.yaml") },
            $( Shipped {
                kind: Kind::Alg,
                name: $name,
                text: include_str!(concat!("../../configs/alg/", $name, ".yaml")),
            }, )+
        ]
    };
}

/// Every shipped configuration, the default of its kind first.
pub static SHIPPED: &[Shipped] = algs![
    "pwm_small",
    "pwm_5M",
    "pwm_48M",
    "pwm_5M_flow_v1",
    "pwm_5M_flow_v2",
    "pwm_5M_flow_v3",
    "pwm_48M_flow_v0",
    "pwm_48M_flow_v1",
    "pwm_48M_flow_v2",
    "pwm_48M_flow_v3",
    "pwm_48M_flow_v3_heun",
    "pwm_48M_flow_v2_rk4",
    "shac_small",
    "shac",
];

impl Shipped {
    pub fn find(kind: Kind, name: &str) -> Option<&'static Shipped> {
        SHIPPED.iter().find(|s| s.kind == kind && s.name == name)
    }

    pub fn names(kind: Kind) -> Vec<&'static str> {
        SHIPPED.iter().filter(|s| s.kind == kind).map(|s| s.name).collect()
    }

    /// Where the file stands in the repository, which is how messages call it.
    pub fn path(&self) -> String {
        format!("configs/{}/{}.yaml", self.kind.key(), self.name)
    }

    /// The shipped configuration it starts from, if it does not start from the defaults.
    pub fn base(&self) -> Option<&'static str> {
        self.text.lines().find_map(|line| line.strip_prefix("alg: "))
    }

    /// The first comment of the file, which says what it is for.
    pub fn summary(&self) -> &'static str {
        self.text.lines().next().and_then(|line| line.strip_prefix("# ")).unwrap_or_default()
    }
}
