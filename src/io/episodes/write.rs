//! Chunks written, in the layout of the published ones, so that whoever reads those reads these.

use super::DataError;
use crate::io::atomic::{FileError, replace};
use std::io::{self, Seek, Write};
use std::path::Path;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Episodes in memory: as many rows each, one behind the other.
#[derive(Clone, Debug, Default)]
pub struct Episodes {
    /// Rows of an episode, entries of an observation and of an action.
    pub rows: usize,
    pub obs_dim: usize,
    pub act_dim: usize,
    pub obs: Vec<f32>,
    pub action: Vec<f32>,
    pub reward: Vec<f32>,
    /// The task of each episode.
    pub task: Vec<i32>,
}

impl Episodes {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.task.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.task.is_empty()
    }

    /// Writes a chunk of all of them, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), DataError> {
        let (e, t) = (self.len(), self.rows);
        let sizes = [self.obs.len(), self.action.len(), self.reward.len()];
        assert_eq!(sizes, [e * t * self.obs_dim, e * t * self.act_dim, e * t], "invariant: episodes are whole");
        replace(path, |file| {
            let mut zip = ZipWriter::new(io::BufWriter::with_capacity(1 << 20, file));
            self.fill(&mut zip)?;
            zip.finish()?.flush()
        })
        .map_err(|e: FileError| e.into())
    }

    fn fill(&self, zip: &mut ZipWriter<impl Write + Seek>) -> io::Result<()> {
        // As torch.save has it; aligned, so that its storages can be mapped.
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(true)
            .with_alignment(64);
        let mut entry = |name: &str, write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>| {
            zip.start_file(format!("chunk/{name}"), options)?;
            write(zip)
        };
        entry("data.pkl", &mut |w| w.write_all(&self.pickle()))?;
        entry("byteorder", &mut |w| w.write_all(b"little"))?;
        for (i, numbers) in [&self.obs, &self.action, &self.reward].into_iter().enumerate() {
            entry(&format!("data/{i}"), &mut |w| numbers.iter().try_for_each(|x| w.write_all(&x.to_le_bytes())))?;
        }
        entry("data/3", &mut |w| {
            let rows = self.task.iter().flat_map(|id| std::iter::repeat_n(id.to_le_bytes(), self.rows));
            rows.into_iter().try_for_each(|b| w.write_all(&b))
        })?;
        entry("version", &mut |w| w.write_all(b"3\n"))
    }

    /// The TensorDict without its numbers, in the second protocol of pickles.
    fn pickle(&self) -> Vec<u8> {
        let (e, t) = (self.len(), self.rows);
        let mut p = PickleWriter(vec![0x80, 2]);
        p.class("tensordict.tensordict", "TensorDict").op(b")\x81}(");
        p.text("_tensordict").class("tensordict.utils", "_StringOnlyDict").op(b")\x81(");
        let arrays: [(&str, &str, &[usize]); 4] = [
            ("obs", "FloatStorage", &[e, t, self.obs_dim]),
            ("action", "FloatStorage", &[e, t, self.act_dim]),
            ("reward", "FloatStorage", &[e, t]),
            ("task", "IntStorage", &[e, t]),
        ];
        for (i, (name, storage, shape)) in arrays.into_iter().enumerate() {
            let strides: Vec<usize> = (1..=shape.len()).map(|d| shape[d..].iter().product()).collect();
            p.text(name).class("torch._utils", "_rebuild_tensor_v2").op(b"((");
            p.text("storage").class("torch", storage).text(&i.to_string()).text("cpu");
            p.int(shape.iter().product()).op(b"tQ").int(0).sizes(shape).sizes(&strides);
            p.op(b"\x89").class("collections", "OrderedDict").op(b")RtR");
        }
        p.op(b"u").text("_batch_size").class("torch", "Size").sizes(&[e, t]).op(b"\x85R");
        p.text("_is_shared").op(b"\x89").text("_is_memmap").op(b"\x89");
        p.text("_device").class("torch", "device").text("cpu").op(b"\x85R");
        p.text("_is_locked").op(b"\x89").text("_td_dim_names").op(b"N").text("_lock_id").op(b"N");
        p.text("_locked_tensordicts").op(b"]ub.");
        p.0
    }
}

/// Opcodes one behind the other.
struct PickleWriter(Vec<u8>);

impl PickleWriter {
    fn op(&mut self, codes: &[u8]) -> &mut Self {
        self.0.extend(codes);
        self
    }

    fn class(&mut self, module: &str, name: &str) -> &mut Self {
        self.op(format!("c{module}\n{name}\n").as_bytes())
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.op(b"X").op(&(text.len() as u32).to_le_bytes()).op(text.as_bytes())
    }

    /// A whole number, in eight bytes where four do not do.
    fn int(&mut self, n: usize) -> &mut Self {
        match i32::try_from(n) {
            Ok(n) => self.op(b"J").op(&n.to_le_bytes()),
            Err(_) => self.op(b"\x8a\x08").op(&(n as i64).to_le_bytes()),
        }
    }

    fn sizes(&mut self, sizes: &[usize]) -> &mut Self {
        self.op(b"(");
        for n in sizes {
            self.int(*n);
        }
        self.op(b"t")
    }
}
