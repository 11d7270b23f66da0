//! What is refused of a whole file.

use super::Read;
use crate::sim::mjcf::model::{Integrator, Mjcf};

impl Mjcf {
    /// What no system has that the law was held against.
    pub(super) fn refuse_unverified(&self) -> Read<()> {
        let (o, f, here) = (&self.option, &self.option.flags, self.bodies[0].place);
        let known = matches!(o.integrator.value, Integrator::Euler | Integrator::RungeKutta4);
        let message = "this law is integrated by `Euler` and `RK4` alone\n  choose one of them";
        self.refuse(&o.integrator, known, here, message)?;
        self.refuse(&o.wind, o.wind.value == [0.0; 3], here, "there is no wind here\n  leave `wind` out")?;
        let message = "a medium resists by its density alone here\n  leave `viscosity` out";
        self.refuse(&o.viscosity, o.viscosity.value == 0.0, here, message)?;
        let message = "`impratio` is 1 in this law\n  leave it out";
        self.refuse(&o.impratio, o.impratio.value == 1.0, here, message)?;
        let message = "contacts have the constants of their geoms here\n  leave the override out";
        self.refuse(&f.contact_override, !f.contact_override.value, here, message)?;
        let message = "`multiccd` is for shapes that this law does not know\n  leave it out";
        self.refuse(&f.multiccd, !f.multiccd.value, here, message)?;
        let align = &self.compiler.align_free;
        let message = "`alignfree` cannot be represented\n  move the frames of free bodies instead";
        self.refuse(align, !align.value, here, message)?;
        if f.constraint.value {
            let listed = [
                (&self.equalities, f.equality.value, "equality constraints"),
                (&self.pairs, f.contact.value, "explicit pairs"),
            ];
            for (list, on, what) in listed {
                if let (Some(first), true) = (list.first(), on) {
                    let message = format!("`{}`: this law has no {what}\n  leave it out", first.value);
                    return Err(self.wrong(first.place.unwrap_or(here), message));
                }
            }
        }
        for body in &self.bodies {
            if let Some(inertial) = &body.inertial {
                let message = "`inertial`: masses follow from geoms in this law\n  give the geoms `mass` or `density`";
                return Err(self.wrong(inertial.place, message));
            }
            let message = "nothing takes gravity off a body in this law\n  leave `gravcomp` out";
            self.refuse(&body.gravcomp, body.gravcomp.value == 0.0, body.place, message)?;
            let message = "nothing moves a body from outside here\n  leave `mocap` out";
            self.refuse(&body.mocap, !body.mocap.value, body.place, message)?;
            for geom in &body.geoms {
                let message = "a body is a box to the medium here\n  leave `fluidshape` out";
                self.refuse(&geom.fluid, !geom.fluid.value, geom.place, message)?;
            }
        }
        Ok(())
    }
}
