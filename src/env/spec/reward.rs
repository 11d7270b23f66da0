//! What a task rewards, and when an episode ends.

use super::observation::Entries;
use super::reader::Read;
use crate::config::spec::SpecNode;
use crate::env::dflex::Termination;
use crate::env::term::{Fall, Term, Tolerance};

const TERMS: [&str; 8] =
    ["linear", "clipped_quadratic", "angle", "squared", "wrapped_angle", "action_cost", "tolerance", "product"];

impl<'a> Entries<'a> {
    /// The terms of a summand: one, or the factors of a product.
    pub(super) fn summand(&self, item: &'a SpecNode) -> Read<Vec<Term>> {
        let r = self.reader;
        let (name, inside) = r.item(item)?;
        let (true, Some(factors)) = (name == "product", inside) else { return Ok(vec![self.term(item)?]) };
        let mut terms = Vec::new();
        for factor in r.list(factors)? {
            match self.term(factor)? {
                Term::Tolerance { of, tolerance, .. } => {
                    terms.push(Term::Tolerance { of, tolerance, times_next: true })
                }
                _ => return Err(r.wrong(factor, "only tolerances can be factors of a product")),
            }
        }
        match terms.last_mut() {
            Some(Term::Tolerance { times_next, .. }) => *times_next = false,
            _ => return Err(r.wrong(factors, "a product has at least one factor")),
        }
        Ok(terms)
    }

    pub(super) fn term(&self, item: &'a SpecNode) -> Read<Term> {
        let r = self.reader;
        let (name, inside) = r.item(item)?;
        let node = inside.ok_or_else(|| r.wrong(item, format!("write what it is of: `- {name}: {{...}}`")))?;
        let f = r.fields(node)?;
        let of = || self.entry(f.need("of")?);
        let range = || {
            let (low, high) = (f.number("low", f64::NEG_INFINITY)?, f.number("high", f64::INFINITY)?);
            if low > high {
                return Err(r.wrong(node, format!("`low` ({low}) is above `high` ({high})\n  exchange them")));
            }
            Read::Ok((low, high))
        };
        let term = match name {
            "linear" => {
                let (low, high) = range()?;
                Term::Linear {
                    of: of()?,
                    weight: f.number("weight", 1.0)?,
                    offset: f.number("offset", 0.0)?,
                    low,
                    high,
                }
            }
            "clipped_quadratic" => {
                let (low, high) = range()?;
                let (below, above) = (r.number(f.need("below")?)?, r.number(f.need("above")?)?);
                Term::ClippedQuadratic { of: of()?, offset: f.number("offset", 0.0)?, low, high, below, above }
            }
            "angle" => {
                let at = f.need("scale")?;
                let scale = r.number(at)?;
                if scale == 0.0 {
                    return Err(r.wrong(at, "the angle at which it is zero is not zero itself"));
                }
                Term::Angle { of: of()?, offset: f.number("offset", 0.0)?, scale }
            }
            "squared" => {
                Term::Squared { of: of()?, offset: f.number("offset", 0.0)?, weight: r.number(f.need("weight")?)? }
            }
            "wrapped_angle" => Term::WrappedAngle {
                sine: self.entry(f.need("sine")?)?,
                cosine: self.entry(f.need("cosine")?)?,
                weight: r.number(f.need("weight")?)?,
            },
            "tolerance" => {
                let fall = match f.get("fall") {
                    None => Fall::LongTail,
                    Some(at) => {
                        let (name, names) = (r.text(at)?, Fall::ALL.map(|(name, _)| name));
                        let found = Fall::ALL.into_iter().find(|(n, _)| *n == name);
                        found.ok_or_else(|| r.unknown(at, "fall", name, &names))?.1
                    }
                };
                let tolerance = Tolerance {
                    low: f.number("low", f64::NEG_INFINITY)?,
                    high: f.number("high", f64::INFINITY)?,
                    margin: f.number("margin", 0.0)?,
                    at_margin: f.number("at_margin", 0.1)?,
                    fall,
                    least: f.number("least", 0.0)?,
                };
                let tolerance = tolerance.checked().map_err(|message| r.wrong(node, message))?;
                Term::Tolerance { of: of()?, tolerance, times_next: false }
            }
            "product" => return Err(r.wrong(item, "a product is a summand of its own, not a factor")),
            "action_cost" => Term::ActionCost { weight: r.number(f.need("weight")?)? },
            _ => return Err(r.unknown(item, "term", name, &TERMS)),
        };
        f.finish()?;
        Ok(term)
    }

    pub(super) fn termination(&self, node: &'a SpecNode) -> Read<Option<Termination>> {
        let r = self.reader;
        let f = r.fields(node)?;
        let entry = self.entry(f.need("of")?)?;
        let below = r.number(f.need("below")?)?;
        let on = f.flag("when", true)?;
        f.finish()?;
        Ok(on.then_some(Termination { entry, below }))
    }
}
