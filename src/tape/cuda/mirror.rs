//! Variables on both sides: which one has the newest numbers, and how the other gets them.

use super::round::{Mail, Rounds};
use super::{CudaPrograms, Memory, POISON};
use crate::device::cuda::CudaError;
use crate::tape::plan::Layout;
use crate::tape::program::{DType, VarId, Vars};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Where the mirror of each type begins.
#[derive(Clone, Copy)]
pub(in crate::tape) struct Host {
    pub reals: *const u8,
    pub indices: *const u8,
}

impl Host {
    pub fn of(self, dtype: DType) -> *const u8 {
        if dtype == DType::Index { self.indices } else { self.reals }
    }
}

/// Which side has the newest numbers of each variable.
#[derive(Debug)]
pub(in crate::tape) struct Mirror {
    pub programs: CudaPrograms,
    /// Of a machine that was made for rounds.
    mail: Option<Mail>,
    /// Steps of the last round.
    steps: usize,
    /// The host's copy is older than the device's.
    stale: Vec<AtomicBool>,
    /// The host's copy is newer.
    written: Vec<bool>,
    /// A read that failed: `run` reports it.
    failed: std::sync::Mutex<Option<CudaError>>,
}

impl Mirror {
    pub fn new(programs: CudaPrograms, vars: &Vars) -> Self {
        let n = vars.iter().count();
        // Fresh memory is zero on both sides.
        let stale = (0..n).map(|_| AtomicBool::new(false)).collect();
        Self { programs, mail: None, steps: 0, stale, written: vec![false; n], failed: std::sync::Mutex::new(None) }
    }

    /// Makes ready for rounds.
    pub fn prepare(&mut self, rounds: &Rounds, vars: &Vars, layout: &Layout) -> Result<(), CudaError> {
        let memory: Arc<Memory> = self.programs.memory().clone();
        let place = |var: VarId| {
            let info = vars.info(var);
            assert!(!vars.is_offloaded(var), "invariant: {} lies in the arena", info.name);
            (memory.address(memory.word(info.dtype, layout.vars[var.0 as usize])), info.len())
        };
        let (mail, frame) = Mail::new(&memory, rounds, place)?;
        self.programs.record_rounds(rounds, &mail, frame)?;
        self.mail = Some(mail);
        Ok(())
    }

    pub fn mail(&self) -> &Mail {
        self.mail.as_ref().expect("invariant: the machine was made for rounds")
    }

    pub fn mail_mut(&mut self) -> &mut Mail {
        self.mail.as_mut().expect("invariant: the machine was made for rounds")
    }

    /// Brings the host's copy of `var`, at `host`, up to date.
    ///
    /// # Safety
    /// `host` is the variable's place in the mirror, and nothing borrowed from it while it was stale is alive.
    pub unsafe fn fetch(&self, var: VarId, dtype: DType, offset: usize, len: usize, host: *mut u8) {
        if !self.stale[var.0 as usize].swap(false, Relaxed) {
            return;
        }
        let memory = self.programs.memory();
        // SAFETY: the caller's promise; both number types have four bytes.
        let to = unsafe { std::slice::from_raw_parts_mut(host, 4 * len) };
        if let Err(e) = memory.buffer.read(memory.word(dtype, offset), to) {
            self.failed.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(e);
        }
    }

    /// Waits until no kernel writes `var` any more, which lies where the host reads it in place.
    pub fn sync(&self, var: VarId) {
        if self.stale[var.0 as usize].swap(false, Relaxed)
            && let Err(e) = self.programs.memory().context.synchronise()
        {
            self.failed.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(e);
        }
    }

    pub fn touched(&mut self, var: VarId) {
        self.written[var.0 as usize] = true;
    }

    /// Sends what the host wrote, before something is put on the stream that reads it.
    pub fn send(&mut self, vars: &Vars, layout: &Layout, host: Host) -> Result<(), CudaError> {
        if let Some(e) = self.failed.lock().unwrap_or_else(|e| e.into_inner()).take() {
            return Err(e);
        }
        let memory = self.programs.memory();
        for (id, info) in vars.iter().filter(|(id, _)| self.written[id.0 as usize] && !vars.is_offloaded(*id)) {
            let offset = layout.vars[id.0 as usize];
            // SAFETY: the variable's place in the mirror.
            let from = unsafe { std::slice::from_raw_parts(host.of(info.dtype).add(4 * offset), 4 * info.len()) };
            memory.buffer.write(memory.word(info.dtype, offset), from)?;
        }
        self.written.fill(false);
        Ok(())
    }

    /// Sends what the host wrote, puts a program on the stream, and lets the host's copies age.
    pub fn run(&mut self, i: usize, vars: &Vars, layout: &Layout, host: Host) -> Result<(), CudaError> {
        self.send(vars, layout, host)?;
        self.programs.run(i)?;
        self.age();
        Ok(())
    }

    /// The same for a round.
    pub fn run_round(
        &mut self,
        steps: &[(usize, usize)],
        vars: &Vars,
        layout: &Layout,
        host: Host,
    ) -> Result<(), CudaError> {
        self.send(vars, layout, host)?;
        let mail = self.mail.as_mut().expect("invariant: the machine was made for rounds");
        self.programs.run_round(mail, steps)?;
        mail.began();
        self.steps = steps.len();
        self.age();
        Ok(())
    }

    /// Everything may have changed on the device.
    pub fn age(&mut self) {
        self.stale.iter_mut().for_each(|s| *s.get_mut() = true);
    }

    /// Waits for all rounds that were begun, how many it were, and brings the host's copies of what the last one reported
    /// up to date.
    ///
    /// # Safety
    /// `host` is the mirror, and nothing borrowed from it is alive.
    pub unsafe fn settle_rounds(&mut self, vars: &Vars, layout: &Layout, host: Host) -> Result<usize, CudaError> {
        let steps = self.steps;
        if self.mail().pending() == 0 {
            return Ok(0);
        }
        self.wait()?;
        let synced = self.mail_mut().sync(steps)?;
        let mail = self.mail.as_ref().expect("invariant: the machine was made for rounds");
        for var in mail.reported().filter(|v| !self.written[v.0 as usize]) {
            let (from, info) = (mail.report(0, var), vars.info(var));
            // SAFETY: the variable's place in the mirror, which the caller lends exclusively.
            let to = unsafe {
                let at = host.of(info.dtype).cast_mut().add(4 * layout.vars[var.0 as usize]);
                std::slice::from_raw_parts_mut(at, 4 * info.len())
            };
            to.copy_from_slice(bytemuck::cast_slice(from));
            *self.stale[var.0 as usize].get_mut() = false;
        }
        Ok(synced)
    }

    /// Waits for the stream; an earlier read that failed is reported here too.
    pub fn wait(&self) -> Result<(), CudaError> {
        self.programs.memory().context.synchronise()?;
        self.failed.lock().unwrap_or_else(|e| e.into_inner()).take().map_or(Ok(()), Err)
    }

    /// Poison in the activation region.
    pub fn poison(&self, layout: &Layout) {
        let (from, len) = (layout.persistent.real, layout.activations.real);
        if let Err(e) = self.programs.memory().buffer.fill(from, len, POISON) {
            self.failed.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(e);
        }
    }
}
