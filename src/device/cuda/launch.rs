//! One launch of a kernel, described without a driver.

use super::estimate::Work;
use std::sync::Arc;

/// A kernel: a function template of a file under `kernels/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    pub file: &'static str,
    pub name: &'static str,
    /// Threads of a block, if a launch says nothing else.
    pub threads: u32,
    /// Names of the template's parameters, all of them integers.
    pub template: &'static [&'static str],
    /// C types of the arguments.
    pub params: &'static [&'static str],
}

/// A header that is written by the program instead of a person: constants of a robot, say.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GeneratedHeader {
    pub name: &'static str,
    pub text: Arc<str>,
}

/// One launch: which kernel, for which sizes, on how many blocks, with which arguments.
#[derive(Clone, Debug)]
pub struct Launch {
    pub kernel: Kernel,
    /// Values of the template's parameters.
    pub template: Vec<i64>,
    pub headers: Vec<GeneratedHeader>,
    /// Threads of a block, and bytes of shared memory it is given beside those that the kernel declares. The same for
    /// all launches of an instance.
    pub threads: u32,
    pub shared: u32,
    /// Bytes that a thread keeps in memory off the chip, at most: the device holds them for every thread that it can
    /// run.
    pub stack: u32,
    /// Blocks along x that run side by side and see each other's shared memory: a divisor of all that there are. The
    /// same for all launches of an instance.
    pub cluster: u32,
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Bytes of each argument.
    pub args: Vec<Vec<u8>>,
    /// Arguments that the driver has to encode first: which, and what they describe.
    pub maps: Vec<(usize, TensorMap)>,
    /// What there is to do, where it does not follow from the grid: see [`Launch::work`].
    work: Option<Work>,
}

impl Launch {
    /// Arguments of a kernel, at most.
    pub const MOST_ARGS: usize = 32;
    /// What a thread of a fresh context has.
    pub const USUAL_STACK: u32 = 1024;
    /// Bytes of shared memory that every kernel may declare, and every launch have without asking.
    pub const USUAL_SHARED: u32 = 48 << 10;

    pub fn new(kernel: Kernel, template: &[i64], grid: [usize; 3], args: Vec<Vec<u8>>) -> Self {
        assert_eq!(kernel.template.len(), template.len(), "invariant: {} has its template arguments", kernel.name);
        assert!(args.len() <= Self::MOST_ARGS, "invariant: {} takes few arguments", kernel.name);
        let grid = grid.map(|n| u32::try_from(n).expect("invariant: a grid has fewer than 2^32 blocks"));
        assert!(grid[1] < 65_536 && grid[2] < 65_536, "invariant: a grid is long along x only");
        let threads = kernel.threads;
        Self {
            kernel,
            template: template.to_vec(),
            headers: vec![],
            threads,
            shared: 0,
            stack: Self::USUAL_STACK,
            cluster: 1,
            grid,
            args,
            maps: vec![],
            work: None,
        }
    }

    pub fn with_headers(mut self, headers: Vec<GeneratedHeader>) -> Self {
        self.headers = headers;
        self
    }

    pub fn with_threads(mut self, threads: u32) -> Self {
        self.threads = threads;
        self
    }

    pub fn with_maps(mut self, maps: Vec<Option<TensorMap>>) -> Self {
        self.maps = maps.into_iter().enumerate().filter_map(|(i, m)| Some((i, m?))).collect();
        self
    }

    pub fn with_shared(mut self, bytes: u32) -> Self {
        self.shared = bytes;
        self
    }

    pub fn with_stack(mut self, bytes: u32) -> Self {
        self.stack = bytes;
        self
    }

    /// For estimates.
    pub fn with_work(mut self, work: Work) -> Self {
        self.work = Some(work);
        self
    }

    pub fn with_cluster(mut self, blocks: u32) -> Self {
        assert!(self.grid[0].is_multiple_of(blocks), "invariant: clusters are whole");
        self.cluster = blocks;
        self
    }

    /// Name of the instance in the compiled module.
    pub fn symbol(&self) -> String {
        let mut s = self.kernel.name.to_owned();
        for t in &self.template {
            s.push('_');
            s.push_str(&t.to_string().replace('-', "m"));
        }
        s + "_k"
    }

    /// What there is to do. Of a launch that does not say it each thread takes one number from each operand.
    pub fn work(&self) -> Work {
        self.work.unwrap_or_else(|| {
            let is_operand = |(c, bytes): (&&str, &Vec<u8>)| c.ends_with('*') && bytes.iter().any(|&b| b != 0);
            let operands = self.kernel.params.iter().zip(&self.args).filter(|&a| is_operand(a)).count();
            let bytes = (4 * operands * self.blocks() * self.threads as usize) as f64;
            Work { bytes, distinct: bytes, steps: 2.0, ..Work::default() }
        })
    }

    /// Blocks in all; a launch of none does nothing and is left out.
    pub fn blocks(&self) -> usize {
        self.grid.iter().map(|&n| n as usize).product()
    }
}

/// An argument type of kernels.
pub trait KernelArg {
    /// The type in C.
    const C: &'static str;
    fn bytes(self) -> Vec<u8>;
    /// What the driver has to encode in place of the bytes.
    fn map(&self) -> Option<TensorMap> {
        None
    }
}

/// Numbers of a matrix that the copy unit reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapElement {
    /// Single precision, rounded to tf32 on the way.
    Tf32,
    Bf16,
}

/// A batch of matrices, and the box of one that the copy unit moves at a time, with the swizzle of 128 bytes. Rows and
/// matrices lie multiples of 16 bytes apart, from a multiple of 16 bytes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorMap {
    pub element: MapElement,
    pub address: u64,
    /// Columns, rows, matrices.
    pub size: [usize; 3],
    /// Bytes from row to row, and from matrix to matrix.
    pub step: [usize; 2],
    /// Columns (128 bytes), rows and matrices of a box.
    pub part: [usize; 3],
}

impl TensorMap {
    /// Bytes of an encoded map.
    pub const BYTES: usize = 128;
}

impl KernelArg for TensorMap {
    const C: &'static str = "const __grid_constant__ TensorMap";
    fn bytes(self) -> Vec<u8> {
        vec![0; Self::BYTES]
    }
    fn map(&self) -> Option<TensorMap> {
        Some(*self)
    }
}

macro_rules! pointer {
    ($(#[$m:meta])* $t:ident, $c:literal) => {
        $(#[$m])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $t(pub u64);
        impl KernelArg for $t {
            const C: &'static str = $c;
            fn bytes(self) -> Vec<u8> {
                self.0.to_ne_bytes().to_vec()
            }
        }
        impl $t {
            /// The address `elements` further on.
            #[must_use]
            pub fn at(self, elements: usize) -> Self {
                Self(self.0 + 4 * elements as u64)
            }
        }
    };
}
pointer!(
    /// Real numbers that are read; zero is the null pointer.
    In,
    "const float*"
);
pointer!(
    /// Real numbers that are written.
    Out,
    "float*"
);
pointer!(
    /// Indices that are read.
    IndexIn,
    "const u32*"
);
pointer!(
    /// Indices that are written.
    IndexOut,
    "u32*"
);
pointer!(
    /// A table of [`Spans`] that is read.
    SpansIn,
    "const Span*"
);

impl From<Out> for In {
    fn from(p: Out) -> Self {
        In(p.0)
    }
}

macro_rules! plain {
    ($($t:ty, $c:literal);*) => {$(
        impl KernelArg for $t {
            const C: &'static str = $c;
            fn bytes(self) -> Vec<u8> {
                self.to_ne_bytes().to_vec()
            }
        }
    )*};
}
plain!(u32, "u32"; i32, "int"; f32, "float"; f64, "double"; u64, "u64");

/// A table of numbers passed by value: constants of a launch.
#[derive(Clone, Debug)]
pub struct Table(pub [f32; Table::LEN]);

impl Table {
    /// Entries, as in `kernels/common/types.cuh`.
    pub const LEN: usize = 64;

    pub fn new(values: impl IntoIterator<Item = f64>) -> Self {
        let mut t = [0.0; Self::LEN];
        for (n, v) in values.into_iter().enumerate() {
            assert!(n < Self::LEN, "invariant: a table of constants has at most {} entries", Self::LEN);
            t[n] = v as f32;
        }
        Self(t)
    }
}

impl KernelArg for Table {
    const C: &'static str = "Table";
    fn bytes(self) -> Vec<u8> {
        bytemuck::bytes_of(&self.0).to_vec()
    }
}

/// A place in device memory, how many words lie there, and where in a row they belong: as in
/// `kernels/common/types.cuh`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Span {
    at: u64,
    len: u32,
    place: u32,
}

/// A table of places, as many as there are, to be written to device memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spans(Vec<Span>);

impl Spans {
    /// From addresses, lengths in words, and places in a row.
    pub fn new(list: impl IntoIterator<Item = (u64, usize, usize)>) -> Self {
        let number = |n: usize| u32::try_from(n).expect("invariant: a variable has fewer than 2^32 numbers");
        Self(list.into_iter().map(|(at, len, place)| Span { at, len: number(len), place: number(place) }).collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of a table of `count` places.
    pub const fn size(count: usize) -> usize {
        count * size_of::<Span>()
    }

    /// Words of the table itself.
    pub fn words(&self) -> usize {
        size_of_val(&self.0[..]) / 4
    }

    pub fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

/// Declares the kernels of one file: a typed function for each, which makes a [`Launch`].
///
/// `fn name[threads]<T, ..>(argument: Type, ..)` launches the template `name<T, ..>` of that file.
#[macro_export]
macro_rules! cuda_kernels {
    ($file:literal; $($(#[$m:meta])* fn $name:ident[$threads:literal] $(<$($t:ident),*>)? ($($p:ident: $ty:ty),* $(,)?);)*) => {
        $(
            $(#[$m])*
            #[allow(clippy::too_many_arguments)]
            pub(crate) fn $name(
                grid: [usize; 3],
                template: [i64; $crate::cuda_kernels!(@count $($($t)*)?)],
                $($p: $ty),*
            ) -> $crate::device::cuda::Launch {
                const KERNEL: $crate::device::cuda::launch::Kernel = $crate::device::cuda::launch::Kernel {
                    file: $file,
                    name: stringify!($name),
                    threads: $threads,
                    template: &[$($(stringify!($t)),*)?],
                    params: &[$(<$ty as $crate::device::cuda::launch::KernelArg>::C),*],
                };
                let maps = vec![$($crate::device::cuda::launch::KernelArg::map(&$p)),*];
                let args = vec![$($crate::device::cuda::launch::KernelArg::bytes($p)),*];
                $crate::device::cuda::Launch::new(KERNEL, &template, grid, args).with_maps(maps)
            }
        )*
    };
    (@count) => { 0 };
    (@count $head:ident $($tail:ident)*) => { 1 + $crate::cuda_kernels!(@count $($tail)*) };
}
