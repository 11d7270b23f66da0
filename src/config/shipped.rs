//! The configurations that come with the program, held inside it so that it works from any folder.

use std::sync::LazyLock;

use super::error::{ConfigErrors, SourceLocation};
use super::spec::{SPEC, Spec};
use super::value::Field;
use super::yaml::{Setting, read_settings};

/// What a file configures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShippedKind {
    Env,
    Alg,
}

impl ShippedKind {
    /// The key that chooses it, which is also its folder under `configs/`.
    pub fn key(self) -> &'static str {
        match self {
            ShippedKind::Env => "env",
            ShippedKind::Alg => "alg",
        }
    }
}

/// One shipped file.
pub struct Shipped {
    pub kind: ShippedKind,
    pub name: &'static str,
    pub text: &'static str,
}

macro_rules! shipped {
    ($($kind:ident: $($name:literal),+ $(,)?;)+) => {
        &[$($( Shipped {
            kind: ShippedKind::$kind,
            name: $name,
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/configs/", folder!($kind), "/", $name, ".yaml")),
        }, )+)+]
    };
}

macro_rules! folder {
    (Env) => {
        "env"
    };
    (Alg) => {
        "alg"
    };
}

/// Every shipped configuration, the default of its kind first. The list stands beside the files.
pub static SHIPPED: &[Shipped] = include!("../../configs/shipped.rs");

/// The settings of the default environment's file: the only place of their defaults.
static DEFAULT_ENV: LazyLock<Vec<Setting>> = LazyLock::new(|| {
    Shipped::default(ShippedKind::Env).settings().unwrap_or_else(|e| panic!("invariant: shipped files are valid: {e}"))
});

/// The default of a setting of the environment, as the default environment's file has it.
pub(super) fn from_default_env<T: Field>(key: &str) -> T {
    let setting = DEFAULT_ENV.iter().find(|s| s.name == key);
    let value = setting.and_then(|s| T::read(&s.value));
    value.unwrap_or_else(|| panic!("invariant: {} sets `{key}`", Shipped::default(ShippedKind::Env).path()))
}

/// The entry of an environment's file that has settings for single algorithms: those win over the algorithm's file.
pub(super) const WITH_ALG: &str = "with_alg";

/// Settings on top of others: one that is set again is replaced, its own `env:` line says nothing more.
pub(super) fn based(base: Vec<Setting>, own: Vec<Setting>) -> Vec<Setting> {
    let own: Vec<Setting> = own.into_iter().filter(|s| s.name != ShippedKind::Env.key()).collect();
    let kept = base.into_iter().filter(|s| own.iter().all(|o| o.name != s.name)).collect::<Vec<_>>();
    kept.into_iter().chain(own).collect()
}

impl Shipped {
    /// What is taken where nothing is chosen.
    pub fn default(kind: ShippedKind) -> &'static Shipped {
        SHIPPED.iter().find(|s| s.kind == kind).expect("invariant: something of each kind is shipped")
    }

    pub fn find(kind: ShippedKind, name: &str) -> Option<&'static Shipped> {
        SHIPPED.iter().find(|s| s.kind == kind && s.name == name)
    }

    /// Names of those that can be chosen.
    pub fn names(kind: ShippedKind) -> Vec<&'static str> {
        SHIPPED.iter().filter(|s| s.kind == kind && !s.is_set()).map(|s| s.name).collect()
    }

    /// The environments of a set, in their published order; none if there is no such set.
    pub fn set(name: &str) -> Option<Vec<&'static str>> {
        let env = |name: &str| Shipped::find(ShippedKind::Env, name);
        let set = env(name).filter(|s| s.is_set())?;
        if let Some(pattern) = set.text.lines().find_map(|line| line.strip_prefix("members: ")) {
            let start = pattern.trim_end_matches('*');
            let all = SHIPPED.iter().filter(|s| s.kind == set.kind && s.name.starts_with(start));
            return Some(all.map(|s| s.name).collect());
        }
        let bases = |s: &'static Shipped| std::iter::successors(s.base(), move |b| env(b)?.base());
        let all = SHIPPED.iter().filter(|s| s.kind == set.kind && bases(s).any(|b| b == name));
        Some(all.map(|s| s.name).collect())
    }

    /// Whether it is what the environments of a set share, and none itself: it has no robot.
    pub fn is_set(&self) -> bool {
        let has_robot = || self.text.lines().any(|line| line.trim_start().starts_with("robot:"));
        self.kind == ShippedKind::Env && self.base().is_none() && !has_robot()
    }

    /// Where the file stands in the repository, which is how messages call it.
    pub fn path(&self) -> String {
        format!("configs/{}/{}.yaml", self.kind.key(), self.name)
    }

    /// Its settings and, under [`WITH_ALG`], those for single algorithms; without the specification of an environment.
    /// What an environment that starts from another does not set is as the other has it.
    pub(super) fn settings(&self) -> Result<Vec<Setting>, ConfigErrors> {
        let settings = read_settings(&self.path(), self.text)?;
        let own: Vec<_> = settings.into_iter().filter(|s| s.name != SPEC).collect();
        match (self.kind, self.base().and_then(|name| Shipped::find(self.kind, name))) {
            (ShippedKind::Env, Some(base)) => Ok(based(base.settings()?, own)),
            _ => Ok(own),
        }
    }

    /// The specification of an environment.
    pub fn spec(&self) -> Option<Spec> {
        let own = Spec::in_file(&self.path(), self.text);
        match self.base().and_then(|name| Shipped::find(ShippedKind::Env, name)) {
            Some(base) => Some(Spec::based(base.spec()?, own, &SourceLocation::Default)),
            None => own,
        }
    }

    /// What the published code's files call the environment.
    pub fn published(&self) -> Option<&'static str> {
        let line = self.text.lines().find_map(|line| line.trim_start().strip_prefix("published: "))?;
        line.split_whitespace().next()
    }

    /// The shipped configuration it starts from, if it does not start from the defaults.
    pub fn base(&self) -> Option<&'static str> {
        let named = |line: &'static str| line.strip_prefix(self.kind.key())?.strip_prefix(": ");
        self.text.lines().find_map(named)?.split_whitespace().next()
    }

    /// The first comment of the file, which says what it is for.
    pub fn summary(&self) -> &'static str {
        self.text.lines().next().and_then(|line| line.strip_prefix("# ")).unwrap_or_default()
    }
}
