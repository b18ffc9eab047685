//! ggml as llama.cpp uses it: a graph of one `mul_mat` on the CPU backend, with weights in the buffer type that repacks
//! them for this CPU where it can. What is allocated stays until the worker ends.

use super::{Peer, Product, variant};
use crate::operands::{self, Operands};
use crate::protocol::Variant;
use anyhow::{Context, Result, bail, ensure};
use llama_cpp_sys_2 as sys;
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_void};
use std::ptr;

/// Name, type, tolerance, variant of mixgemm.
const VARIANTS: [(&str, sys::ggml_type, f64, &str); 4] = [
    ("q4_K", sys::GGML_TYPE_Q4_K, 0.12, "w4 g32 asym a8"),
    ("q4_0", sys::GGML_TYPE_Q4_0, 0.15, "w4 g32 asym a8"),
    ("q8_0", sys::GGML_TYPE_Q8_0, 0.02, "w8 g32 a8"),
    ("q2_K", sys::GGML_TYPE_Q2_K, 0.5, "w2 g128 asym a8"),
];

/// The CPU backend.
#[derive(Clone, Copy)]
pub(super) struct Ggml {
    backend: sys::ggml_backend_t,
    /// The buffer type that repacks.
    repack: sys::ggml_backend_buffer_type_t,
}

impl Ggml {
    pub(super) fn new(threads: usize) -> Result<Self> {
        let threads = threads.try_into()?;
        #[cfg(target_arch = "x86_64")]
        ensure!(
            cfg!(target_feature = "avx2") || !std::is_x86_feature_detected!("avx2"),
            "built without this CPU's instructions: run cargo in the package's directory, whose configuration asks for them"
        );
        // SAFETY: handles must be live, and the function behind the name must have the type that it is given. Every
        // handle comes from the call before it, is checked where it may be null, and is never freed; the type is the
        // one that ggml-backend.h gives this name. A wrong one would crash the worker at its start.
        unsafe {
            sys::ggml_log_set(Some(silence), ptr::null_mut());
            let backend = sys::ggml_backend_cpu_init();
            ensure!(!backend.is_null(), "ggml has no CPU backend");
            sys::ggml_backend_cpu_set_n_threads(backend, threads);
            let device = sys::ggml_backend_get_device(backend);
            let registry = sys::ggml_backend_dev_backend_reg(device);
            let name = c"ggml_backend_dev_get_extra_bufts";
            let address = sys::ggml_backend_reg_get_proc_address(registry, name.as_ptr());
            let extra: sys::ggml_backend_dev_get_extra_bufts_t = std::mem::transmute(address);
            let mut next = extra.context("ggml has no extra buffer types")?(device);
            while !(*next).is_null() {
                if CStr::from_ptr(sys::ggml_backend_buft_name(*next)) == c"CPU_REPACK" {
                    return Ok(Self { backend, repack: *next });
                }
                next = next.add(1);
            }
        }
        bail!("ggml was built without CPU_REPACK")
    }

    /// Matrices N × K in a buffer of this type; none where it cannot take them.
    fn matrices(
        &self,
        kind: sys::ggml_type,
        (n, k): (usize, usize),
        count: usize,
        buffer: sys::ggml_backend_buffer_type_t,
    ) -> Result<Option<Vec<*mut sys::ggml_tensor>>> {
        let context = context(count, 0)?;
        // SAFETY: the context must have room for the tensors, and the tensors must be live when they are read. It was
        // made for as many, and nothing frees it. ggml aborts the worker where there is no room.
        unsafe {
            let tensor = |_| sys::ggml_new_tensor_2d(context, kind, k as i64, n as i64);
            let tensors: Vec<_> = (0..count).map(tensor).collect();
            let allocated = sys::ggml_backend_alloc_ctx_tensors_from_buft(context, buffer);
            ensure!(!allocated.is_null(), "ggml: no memory for {count} matrices");
            // The buffer type that repacks leaves its mark on the tensors that it can.
            let taken = buffer != self.repack || tensors.iter().all(|&tensor| !(*tensor).extra.is_null());
            Ok(taken.then_some(tensors))
        }
    }
}

/// Takes ggml's messages, one for each matrix that it repacks.
extern "C" fn silence(_: sys::ggml_log_level, _: *const c_char, _: *mut c_void) {}

/// A context for descriptions of tensors and graphs, without their data.
fn context(tensors: usize, graphs: usize) -> Result<*mut sys::ggml_context> {
    // SAFETY: these take no pointers but the buffer, which may be null: ggml then allocates one. A wrong structure would
    // not pass the check of any product.
    let context = unsafe {
        sys::ggml_init(sys::ggml_init_params {
            mem_size: tensors * sys::ggml_tensor_overhead() + graphs * sys::ggml_graph_overhead(),
            mem_buffer: ptr::null_mut(),
            no_alloc: true,
        })
    };
    ensure!(!context.is_null(), "ggml: no memory for a context");
    Ok(context)
}

impl Peer for Ggml {
    fn version(&self) -> String {
        // SAFETY: the pointer must be a string that ends with a zero and stays. It is a literal of ggml's.
        let version = unsafe { CStr::from_ptr(sys::ggml_version()) };
        version.to_string_lossy().into()
    }

    fn variants(&self) -> Vec<Variant> {
        VARIANTS
            .iter()
            .map(|&(name, _, tolerance, rival)| variant(name, tolerance, rival))
            .collect()
    }

    fn prepare(&mut self, variant: &str, operands: &Operands, bytes: usize) -> Result<Box<dyn Product>> {
        let Operands { n, k, ref w, ref x } = *operands;
        let (_, kind, ..) = VARIANTS
            .into_iter()
            .find(|v| v.0 == variant)
            .context("no such variant")?;
        // SAFETY: source and destination must be as long as ggml reads and writes: N rows of K floats, and N rows of
        // `ggml_row_size` bytes, which is how long they are. No type here needs an importance matrix, so it may be null.
        // ggml returns what it has written.
        let (data, bits) = unsafe {
            let row = sys::ggml_row_size(kind, k as i64);
            let mut data = vec![0u8; n * row];
            let out = data.as_mut_ptr().cast();
            let written = sys::ggml_quantize_chunk(kind, w.as_ptr(), out, 0, n as i64, k as i64, ptr::null());
            assert_eq!(written, data.len());
            (data, 8.0 * row as f64 / k as f64)
        };
        let count = operands::count(n, k, bits, bytes);
        let tensors = match self.matrices(kind, (n, k), count, self.repack)? {
            Some(tensors) => tensors,
            None => {
                // SAFETY: the backend must be live, as it always is.
                let plain = unsafe { sys::ggml_backend_get_default_buffer_type(self.backend) };
                let tensors = self.matrices(kind, (n, k), count, plain)?;
                tensors.context("ggml: no buffer for the weights")?
            }
        };
        for (&tensor, data) in tensors.iter().zip(operands::copies(&data, n, count)) {
            // SAFETY: the tensor must hold as many bytes as are set: N rows of this type, which is how long `data` is.
            // ggml asserts that.
            unsafe { sys::ggml_backend_tensor_set(tensor, data.as_ptr().cast(), 0, data.len()) };
        }
        let rows = x.len() / k;
        // SAFETY: the buffer must be as long as what is placed in it: the activations, and as many rows of N outputs.
        // The base is a pointer to that many bytes for as long as the buffer lives, which is until the worker ends.
        let (buffer, base) = unsafe {
            let buffer = sys::ggml_backend_alloc_buffer(self.backend, 4 * rows * (k + n));
            ensure!(!buffer.is_null(), "ggml: no memory for activations");
            let base = sys::ggml_backend_buffer_get_base(buffer).cast::<f32>();
            ptr::copy_nonoverlapping(x.as_ptr(), base, x.len());
            (buffer, base)
        };
        Ok(Box::new(Run {
            ggml: *self,
            tensors,
            bits,
            buffer,
            base,
            shape: (n, k, rows),
            graphs: BTreeMap::new(),
            last: ptr::null_mut(),
            m: 0,
        }))
    }
}

struct Run {
    ggml: Ggml,
    tensors: Vec<*mut sys::ggml_tensor>,
    bits: f64,
    /// All rows of activations, then those of outputs.
    buffer: sys::ggml_backend_buffer_t,
    base: *mut f32,
    /// N, K and rows of activations.
    shape: (usize, usize, usize),
    /// By rows and copy: graphs, and their outputs.
    graphs: BTreeMap<(usize, usize), (*mut sys::ggml_cgraph, *mut sys::ggml_tensor)>,
    /// The output of the last product, and its rows.
    last: *mut sys::ggml_tensor,
    m: usize,
}

impl Run {
    fn graph(&self, m: usize, copy: usize) -> Result<(*mut sys::ggml_cgraph, *mut sys::ggml_tensor)> {
        let (_, k, rows) = self.shape;
        let context = context(2, 1)?;
        // SAFETY: the context must have room for two tensors and a graph, and their data must lie in the buffer. It was
        // made for as many; at most all rows of activations and of outputs are placed, where the buffer has them.
        unsafe {
            let x = sys::ggml_new_tensor_2d(context, sys::GGML_TYPE_F32, k as i64, m as i64);
            sys::ggml_backend_tensor_alloc(self.buffer, x, self.base.cast());
            let y = sys::ggml_mul_mat(context, self.tensors[copy], x);
            sys::ggml_backend_tensor_alloc(self.buffer, y, self.base.add(rows * k).cast());
            let graph = sys::ggml_new_graph(context);
            sys::ggml_build_forward_expand(graph, y);
            Ok((graph, y))
        }
    }
}

impl Product for Run {
    fn copies(&self) -> usize {
        self.tensors.len()
    }

    fn bits(&self) -> f64 {
        self.bits
    }

    fn run(&mut self, m: usize, copy: usize) -> Result<()> {
        ensure!(m <= self.shape.2, "m: expected at most {}, found {m}", self.shape.2);
        let (graph, y) = match self.graphs.get(&(m, copy)) {
            Some(&found) => found,
            None => self.graph(m, copy)?,
        };
        self.graphs.insert((m, copy), (graph, y));
        (self.last, self.m) = (y, m);
        // SAFETY: the graph, its tensors and their data must be live. Nothing frees them. A product of freed weights
        // would not pass its check.
        let status = unsafe { sys::ggml_backend_graph_compute(self.ggml.backend, graph) };
        ensure!(status == sys::GGML_STATUS_SUCCESS, "ggml: status {status}");
        Ok(())
    }

    fn output(&mut self) -> Result<Vec<f32>> {
        ensure!(!self.last.is_null(), "output: expected a product before");
        let mut y = vec![0.0f32; self.m * self.shape.0];
        // SAFETY: the tensor must hold as many bytes as are read: M rows of N floats, which is what was allocated here.
        unsafe { sys::ggml_backend_tensor_get(self.last, y.as_mut_ptr().cast(), 0, 4 * y.len()) };
        Ok(y)
    }
}
