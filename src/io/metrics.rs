//! What a run measured: one JSON object a logging step in `metrics.jsonl`, the same numbers for TensorBoard.
//!
//! ```text
//! {"step":65536,"epoch":16,"actor_loss":-1.25,"eval_return":1190.5}
//! ```
//!
//! `step` counts environment steps. The columns are fixed at construction and a row allocates nothing. A NaN in a row
//! means "not measured at this step" and the column is left out; an infinity is written as `null`, since JSON has none.
//! Numbers are written in the shortest form that reads back to the same bits.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::io::atomic::FileError;
use crate::io::tensorboard::{EventWriter, append};

/// The file's name in a run folder.
pub const FILE_NAME: &str = "metrics.jsonl";

/// What can go wrong with metrics.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The file system said no.
    #[error(transparent)]
    File(#[from] FileError),
    /// A whole line is no metrics row. (A torn last line is no error: a killed process leaves one.)
    #[error("{path}:{line}: not a metrics row ({what}); delete that line to go on", path = path.display())]
    BadRow {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What the parser says.
        what: String,
    },
    /// A row does not have one number for each column.
    #[error("{path}: a row of {found} numbers for {expected} columns", path = path.display())]
    Columns {
        /// The file.
        path: PathBuf,
        /// Numbers given.
        found: usize,
        /// Columns declared.
        expected: usize,
    },
}

/// How `Metrics::open` treats rows that are already there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Begin an empty file.
    Fresh,
    /// Keep the rows of earlier epochs; the run writes this epoch and later ones (again).
    FromEpoch(u64),
}

/// Writer of a run's metrics.
#[derive(Debug)]
pub struct Metrics {
    path: PathBuf,
    file: File,
    good: u64,
    /// `,"name":` for each column.
    keys: Vec<String>,
    buf: Vec<u8>,
    events: EventWriter,
    cut: Option<String>,
}

/// Longest text of `{"step":..,"epoch":..}` and of a number as `write_number` writes it.
const ROW_ROOM: usize = 80;
const NUMBER_ROOM: usize = 32;

impl Metrics {
    /// Opens `metrics.jsonl` and the event file in `dir`.
    pub fn open(dir: &Path, columns: &[&str], start: Start) -> Result<Self, MetricsError> {
        let path = dir.join(FILE_NAME);
        let at = |doing| FileError::at(&path, doing);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(at("opening it"))?;
        let (good, next_step, cut) = match start {
            Start::Fresh => (0, 0, None),
            Start::FromEpoch(epoch) => keep(&path, epoch)?,
        };
        // A device such as /dev/null has no length to cut; a file whose length is right needs no cut.
        if file.metadata().map_err(at("opening it"))?.len() != good {
            file.set_len(good).map_err(at("cutting it"))?;
        }
        file.seek(SeekFrom::Start(good)).map_err(at("seeking in it"))?;

        let keys: Vec<String> = columns.iter().map(|c| format!(",{}:", serde_json::Value::from(*c))).collect();
        let room = ROW_ROOM + keys.iter().map(|k| k.len() + NUMBER_ROOM).sum::<usize>();
        let events = EventWriter::open(dir, columns, next_step)?;
        Ok(Self { path, file, good, keys, buf: Vec::with_capacity(room), events, cut })
    }

    /// Lines behind the rows that were kept and are no rows, as a power cut leaves them, in words; none where there
    /// were none. They are gone.
    pub fn cut(&self) -> Option<&str> {
        self.cut.as_deref()
    }

    /// Appends one row to both files and hands it to the system. Allocates nothing unless it fails.
    pub fn row(&mut self, step: u64, epoch: u64, values: &[f64]) -> Result<(), MetricsError> {
        if values.len() != self.keys.len() {
            return Err(MetricsError::Columns {
                path: self.path.clone(),
                found: values.len(),
                expected: self.keys.len(),
            });
        }
        self.buf.clear();
        // Writing to a Vec cannot fail, and the room reserved holds the longest row.
        let _ = write!(self.buf, "{{\"step\":{step},\"epoch\":{epoch}");
        for (key, &value) in self.keys.iter().zip(values) {
            if !value.is_nan() {
                self.buf.extend_from_slice(key.as_bytes());
                write_number(&mut self.buf, value);
            }
        }
        self.buf.extend_from_slice(b"}\n");
        append(&mut self.file, &self.path, &self.buf, &mut self.good)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
        self.events.row(now, step, values)?;
        Ok(())
    }

    /// The row that was written last, with its end of line; nothing before the first.
    pub fn last(&self) -> &[u8] {
        &self.buf
    }

    /// Makes what was written survive a power cut; called beside a checkpoint, not every row.
    pub fn sync(&self) -> Result<(), MetricsError> {
        self.file.sync_data().map_err(FileError::at(&self.path, "syncing it to disk"))?;
        Ok(())
    }
}

/// Shortest text that reads back the same; an exponent where plain digits would grow past the room.
fn write_number(out: &mut Vec<u8>, v: f64) {
    let size = v.abs();
    let _ = if !v.is_finite() {
        write!(out, "null")
    } else if v == 0.0 || (1e-5..1e16).contains(&size) {
        write!(out, "{v}")
    } else {
        write!(out, "{v:e}")
    };
}

/// One row read back.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Environment steps so far.
    pub step: u64,
    /// Epoch.
    pub epoch: u64,
    /// The columns it has; `null` reads as NaN.
    pub values: BTreeMap<String, f64>,
}

/// Reads a whole metrics file; a torn last line is left out.
pub fn read_metrics(path: &Path) -> Result<Vec<Row>, MetricsError> {
    Rows::open(path)?.collect()
}

/// The rows at the end of a metrics file, of at most so many bytes; lines that are no rows are left out.
pub fn last_rows(path: &Path, bytes: u64) -> std::io::Result<Vec<Row>> {
    let mut file = File::open(path)?;
    let end = file.metadata()?.len();
    file.seek(SeekFrom::Start(end.saturating_sub(bytes)))?;
    let mut text = vec![];
    file.take(bytes).read_to_end(&mut text)?;
    Ok(text.split_inclusive(|&b| b == b'\n').filter(|l| l.ends_with(b"\n")).filter_map(|l| parse(l).ok()).collect())
}

/// The points `(step, value)` of one column, without the rows that lack it.
pub fn column(rows: &[Row], name: &str) -> Vec<(f64, f64)> {
    rows.iter().filter_map(|r| Some((r.step as f64, *r.values.get(name)?))).filter(|(_, v)| v.is_finite()).collect()
}

/// The rows of a metrics file, read one at a time: a file of any length takes the memory of its longest line.
pub struct Rows {
    path: PathBuf,
    file: BufReader<File>,
    line: Vec<u8>,
    number: usize,
    /// Bytes of the file up to the end of the row that came last.
    end: u64,
}

impl Rows {
    /// Opens a metrics file to be read from its beginning.
    pub fn open(path: &Path) -> Result<Self, MetricsError> {
        let file = File::open(path).map_err(FileError::at(path, "reading it"))?;
        Ok(Self { path: path.into(), file: BufReader::new(file), line: Vec::new(), number: 0, end: 0 })
    }
}

/// A row, or why there is none; a torn last line ends them.
impl Iterator for Rows {
    type Item = Result<Row, MetricsError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.line.clear();
        if let Err(e) = self.file.read_until(b'\n', &mut self.line) {
            return Some(Err(FileError::at(&self.path, "reading it")(e).into()));
        }
        if !self.line.ends_with(b"\n") {
            return None;
        }
        self.number += 1;
        self.end += self.line.len() as u64;
        let bad = |what| MetricsError::BadRow { path: self.path.clone(), line: self.number, what };
        Some(parse(&self.line).map_err(bad))
    }
}

fn parse(line: &[u8]) -> Result<Row, String> {
    let mut map: BTreeMap<String, Option<f64>> = serde_json::from_slice(line).map_err(|e| e.to_string())?;
    let mut count = |key: &str| map.remove(key).flatten().ok_or_else(|| format!("no `{key}`"));
    let (step, epoch) = (count("step")? as u64, count("epoch")? as u64);
    Ok(Row { step, epoch, values: map.into_iter().map(|(k, v)| (k, v.unwrap_or(f64::NAN))).collect() })
}

/// Length of the rows before `epoch`, the first step that may be written after them, and what is wrong with the lines
/// behind them. A line that is no row is an error only where a row to keep follows it.
fn keep(path: &Path, epoch: u64) -> Result<(u64, u64, Option<String>), MetricsError> {
    let (mut good, mut next_step, mut bad) = (0, 0, None);
    let mut rows = Rows::open(path)?;
    while let Some(row) = rows.next() {
        match (row, bad) {
            (Ok(row), Some(e)) if row.epoch < epoch => return Err(e),
            (Ok(row), None) if row.epoch < epoch => (good, next_step, bad) = (rows.end, row.step + 1, None),
            (Ok(row), None) => return Ok((good, row.step.max(next_step), None)),
            (Err(e @ MetricsError::File(_)), _) => return Err(e),
            (Ok(_), e) => bad = e,
            (Err(e), first) => bad = first.or(Some(e)),
        }
    }
    let cut = bad.map(|e| match e {
        MetricsError::BadRow { path, line, what } => {
            format!("{}: line {line} is no row ({what}); it and those behind it are cut off", path.display())
        }
        e => e.to_string(),
    });
    Ok((good, next_step, cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back_and_fit_the_room() {
        for v in [
            0.0,
            -0.0,
            1.5,
            -1e-300,
            f64::MAX,
            f64::MIN_POSITIVE,
            5e-324,
            1e15 + 0.3,
            1e16,
            9.9e-6,
            0.1 + 0.2,
            -1.2345678901234567e-5,
        ] {
            let mut b = vec![];
            write_number(&mut b, v);
            assert!(b.len() <= NUMBER_ROOM, "{v:e}");
            let back: f64 = serde_json::from_slice(&b).unwrap();
            assert_eq!(back.to_bits(), v.to_bits(), "{}", String::from_utf8_lossy(&b));
        }
    }

    #[test]
    fn rows_round_trip_and_resume_cuts_the_later_epochs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        let mut m = Metrics::open(dir.path(), &["loss", "eval \"q\""], Start::Fresh).unwrap();
        for e in 0..5u64 {
            m.row(e * 100, e, &[e as f64 + 0.5, if e == 2 { f64::INFINITY } else { f64::NAN }]).unwrap();
        }
        drop(m);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"step\":500,\"ep").unwrap();
        let rows = read_metrics(&path).unwrap();
        assert_eq!(rows.len(), 5);
        assert!(rows[2].values["eval \"q\""].is_nan() && !rows[1].values.contains_key("eval \"q\""));
        let mut m = Metrics::open(dir.path(), &["loss", "eval"], Start::FromEpoch(3)).unwrap();
        m.row(301, 3, &[9.0, 8.0]).unwrap();
        let rows = read_metrics(&path).unwrap();
        assert_eq!(column(&rows, "loss"), [(0.0, 0.5), (100.0, 1.5), (200.0, 2.5), (301.0, 9.0)]);
        assert!(matches!(m.row(1, 1, &[1.0]), Err(MetricsError::Columns { .. })));
    }

    #[test]
    fn a_bad_line_in_the_middle_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        std::fs::write(&path, "{\"step\":1,\"epoch\":0}\n{\"step\"oops\n{\"step\":2,\"epoch\":1}\n").unwrap();
        assert!(read_metrics(&path).unwrap_err().to_string().contains("metrics.jsonl:2"));
    }

    #[test]
    fn a_bad_line_behind_what_is_kept_is_cut_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        let kept = "{\"step\":1,\"epoch\":0}\n{\"step\":2,\"epoch\":1}\n";
        let open = |behind: &str| {
            std::fs::write(&path, format!("{kept}{behind}")).unwrap();
            Metrics::open(dir.path(), &["a"], Start::FromEpoch(2))
        };
        for behind in ["\0\0\0\n", "oops\n{\"step\":3,\"epoch\":2}\n", "oops\n\0\n{\"st"] {
            let m = open(behind).unwrap();
            assert!(m.cut().unwrap().contains("metrics.jsonl: line 3"), "{:?}", m.cut());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), kept);
        }
        assert_eq!(open("{\"step\":3,\"epoch\":2}\noops\n").unwrap().cut(), None, "behind rows that are cut anyway");
        assert!(open("oops\n{\"step\":3,\"epoch\":1}\n").unwrap_err().to_string().contains("metrics.jsonl:3"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/full", dir.path().join(FILE_NAME)).unwrap();
        let mut m = Metrics::open(dir.path(), &["a"], Start::Fresh).unwrap();
        assert!(matches!(m.row(0, 0, &[1.0]), Err(MetricsError::File(FileError::DiskFull { .. }))));
    }
}
