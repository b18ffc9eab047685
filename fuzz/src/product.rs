//! Whole products: any mode and element type, epilogue, output and strides, now and then with operands that do not fit.
#![forbid(unsafe_code)]

use crate::weights::{Weights, Width};
use crate::words::{Words, seldom, up_to};
use arbitrary::Arbitrary;
use mixgemm::base::float::CANONICAL_NAN;
use mixgemm::{
    Activation, Activations, Backend, Element, Epilogue, GroupSums, MatMut, MatRef, Mode, Output, QuantMatrix, Result,
    ScaleType, bf16, f16, reference,
};

/// Multiply-adds of one product, padding included: more cost time and show nothing new.
const MOST_WORK: usize = 64 * 1024;

/// A product `Y[M,N] = X[M,K] · W[N,K]ᵀ`.
#[derive(Debug, Clone, Arbitrary)]
pub struct Product {
    #[arbitrary(with = up_to::<26>)]
    m: usize,
    #[arbitrary(with = up_to::<69>)]
    n: usize,
    #[arbitrary(with = up_to::<319>)]
    k: usize,
    /// Groups beyond the 32-bit fold need thousands of input channels.
    #[arbitrary(with = seldom)]
    long: Option<()>,
    weights: Weights,
    input: Input,
    values: Words,
    bias: Option<Words>,
    activation: Function,
    residual: Option<Words>,
    output: Width,
    start: Words,
    /// Elements between the rows of every matrix.
    #[arbitrary(with = up_to::<3>)]
    gap: usize,
    #[arbitrary(with = seldom)]
    misfit: Option<Misfit>,
}

/// Modes with the element types that they take.
#[derive(Debug, Clone, Arbitrary)]
enum Input {
    A8(Width),
    A8Row(Width),
    A8Given { per_row: bool, scales: Words },
    A8Static { scale: Words, saturate: bool, width: Width },
    A16(Width),
    Exact,
    Refused { mode: u8, int8: bool, width: Width },
}

#[derive(Debug, Clone, Arbitrary)]
enum Function {
    Identity,
    Relu,
    Gelu,
    Silu,
}

/// An operand that does not fit the others.
#[derive(Debug, Clone, PartialEq, Eq, Arbitrary)]
enum Misfit {
    Input,
    Output,
    Bias,
    Residual,
    Sums,
    RowScales,
}

enum Values {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
    I8(Vec<i8>),
}

/// A product that can be computed: the operands of [`Product`].
pub struct Problem {
    weights: QuantMatrix,
    m: usize,
    columns: usize,
    values: Values,
    scales: Vec<f32>,
    per_row: bool,
    mode: Mode,
    bias: Option<Vec<f32>>,
    activation: Activation,
    residual: Option<Vec<f32>>,
    output: Width,
    start: Vec<f32>,
    gap: usize,
    misfit: Option<Misfit>,
}

/// Results as bits, gaps between rows included; or the refusal.
#[derive(Debug, PartialEq)]
pub struct Answers {
    run: Result<Vec<u32>>,
    accumulated: Result<Vec<u32>>,
    sums: Result<Vec<i64>>,
    narrow_sums: Result<Vec<i32>>,
}

impl Product {
    /// M, N and K, halved until the work is small. Kernels pad columns, and every group, to at most 32.
    fn shape(&self) -> (usize, usize, usize) {
        let scheme = self.weights.scheme.scheme();
        let padded = |k: usize| scheme.groups(k) * scheme.group_length(k).next_multiple_of(32);
        let (mut m, mut n, mut k) = (self.m, self.n, self.k * self.long.map_or(1, |()| 16));
        while m * n.next_multiple_of(32) * padded(k) > MOST_WORK {
            let largest = if m > 1 {
                &mut m
            } else if n > 32 {
                &mut n
            } else {
                &mut k
            };
            *largest /= 2;
        }
        (m, n, k)
    }

    /// The operands; `None` where the weights were refused, as they had to be.
    #[must_use]
    pub fn problem(&self) -> Option<Problem> {
        let (m, n, k) = self.shape();
        let weights = self.weights.matrix(n, k)?;
        let wider = |misfit: Misfit| usize::from(self.misfit == Some(misfit));
        let columns = k + wider(Misfit::Input);
        let (mode, element) = self.input.mode();
        let len = m * (columns + self.gap);
        let mut words = self.values.stream();
        let values = match element {
            None => Values::I8((0..len).map(|_| words.bits() as i8).collect()),
            Some(width) => {
                let values = (0..len).map(|_| words.float(width.into()));
                match width {
                    Width::F32 => Values::F32(values.collect()),
                    Width::F16 => Values::F16(values.map(f16::from_f32).collect()),
                    Width::Bf16 => Values::Bf16(values.map(bf16::from_f32).collect()),
                }
            }
        };
        let floats = |words: &Words, len: usize| -> Vec<f32> {
            let mut words = words.stream();
            (0..len).map(|_| words.float(ScaleType::F32)).collect()
        };
        let (per_row, scales) = match &self.input {
            Input::A8Given { per_row, scales } => (*per_row, floats(scales, m.max(1) + 1)),
            _ => (false, vec![1.0; m + 1]),
        };
        let residual_rows = m + wider(Misfit::Residual);
        let residual = |words: &Words| floats(words, residual_rows * (n + self.gap));
        Some(Problem {
            m,
            columns,
            values,
            scales,
            per_row,
            mode,
            bias: self.bias.as_ref().map(|b| floats(b, n + wider(Misfit::Bias))),
            activation: match self.activation {
                Function::Identity => Activation::Identity,
                Function::Relu => Activation::Relu,
                Function::Gelu => Activation::Gelu,
                Function::Silu => Activation::Silu,
            },
            residual: self.residual.as_ref().map(residual),
            output: self.output,
            start: floats(&self.start, (m + 1) * (n + self.gap)),
            gap: self.gap,
            misfit: self.misfit.clone(),
            weights,
        })
    }
}

impl Input {
    /// The mode and the float type of the input, `None` for int8.
    fn mode(&self) -> (Mode, Option<Width>) {
        match *self {
            Self::A8(width) => (Mode::A8, Some(width)),
            Self::A8Row(width) => (Mode::A8Row, Some(width)),
            Self::A8Given { .. } => (Mode::A8Given, None),
            Self::A8Static {
                ref scale,
                saturate,
                width,
            } => {
                let scale = scale.stream().float(ScaleType::F32).abs();
                (Mode::A8Static { scale, saturate }, Some(width))
            }
            Self::A16(width) => (Mode::A16, Some(width)),
            Self::Exact => (Mode::Exact, Some(Width::F16)),
            Self::Refused { mode, int8, width } => {
                let (scale, saturate) = (f32::NAN, true);
                let modes = [
                    Mode::A8Given,
                    Mode::Exact,
                    Mode::A8Static { scale, saturate },
                    Mode::A16,
                    Mode::A8Row,
                ];
                (modes[usize::from(mode) % modes.len()], (!int8).then_some(width))
            }
        }
    }
}

impl Problem {
    /// The weights.
    #[must_use]
    pub fn weights(&self) -> &QuantMatrix {
        &self.weights
    }

    /// The mode.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What the definition says.
    #[must_use]
    pub fn expected(&self) -> Answers {
        let w = &self.weights;
        Answers {
            run: self.run(|x, mode, e, y| reference::run(w, x, mode, e, y)),
            accumulated: self.accumulated(|x, mode, y| reference::accumulate(w, x, mode, y)),
            sums: self.sums(|x, mode, sums| reference::group_sums(w, x, mode, sums)),
            narrow_sums: self.narrow_sums(|x, mode, sums| reference::group_sums(w, x, mode, sums)),
        }
    }

    /// What a backend says.
    #[must_use]
    pub fn answers<B: Backend>(&self, backend: &B, w: &B::Prepared) -> Answers {
        Answers {
            run: self.run(|x, mode, e, y| backend.run(w, x, mode, e, y).map(drop)),
            accumulated: self.accumulated(|x, mode, y| backend.accumulate(w, x, mode, y).map(drop)),
            sums: self.sums(|x, mode, sums| backend.group_sums(w, x, mode, sums).map(drop)),
            narrow_sums: self.narrow_sums(|x, mode, sums| backend.group_sums(w, x, mode, sums).map(drop)),
        }
    }

    /// M.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.m
    }

    /// The activations.
    #[must_use]
    pub fn activations(&self) -> Activations<'_> {
        fn view<T>(values: &[T], m: usize, columns: usize, gap: usize) -> MatRef<'_, T> {
            MatRef::with_stride(values, m, columns, columns + gap).expect("a row of values for every row")
        }
        let (m, columns, gap) = (self.m, self.columns, self.gap);
        match &self.values {
            Values::F32(x) => view(x, m, columns, gap).into(),
            Values::F16(x) => view(x, m, columns, gap).into(),
            Values::Bf16(x) => view(x, m, columns, gap).into(),
            Values::I8(x) if self.per_row => {
                let rows = m + usize::from(self.misfit == Some(Misfit::RowScales));
                Activations::int8_rows(view(x, m, columns, gap), &self.scales[..rows])
            }
            Values::I8(x) => Activations::int8(view(x, m, columns, gap), self.scales[0]),
        }
    }

    /// The epilogue of rows from `first` on.
    #[must_use]
    pub fn epilogue(&self, first: usize, rows: usize) -> Epilogue<'_> {
        let n = self.weights.n();
        let mut epilogue = Epilogue::new().activation(self.activation);
        if let Some(bias) = &self.bias {
            epilogue = epilogue.bias(bias);
        }
        if let Some(residual) = &self.residual {
            let rows = rows + usize::from(self.misfit == Some(Misfit::Residual));
            let residual = &residual[first * (n + self.gap)..];
            let residual = MatRef::with_stride(residual, rows, n, n + self.gap);
            epilogue = epilogue.residual(residual.expect("a row of values for every row"));
        }
        epilogue
    }

    /// Rows and columns of the output, and the elements of a row with its gap.
    fn output_shape(&self) -> (usize, usize, usize) {
        let rows = self.m + usize::from(self.misfit == Some(Misfit::Output));
        (rows, self.weights.n(), self.weights.n() + self.gap)
    }

    fn run(&self, f: impl FnOnce(Activations<'_>, Mode, &Epilogue<'_>, Output<'_>) -> Result<()>) -> Result<Vec<u32>> {
        let f = |y: Output<'_>| f(self.activations(), self.mode, &self.epilogue(0, self.m), y);
        match self.output {
            Width::F32 => self.stored::<f32>(f),
            Width::F16 => self.stored::<f16>(f),
            Width::Bf16 => self.stored::<bf16>(f),
        }
    }

    /// The bits of an output of this type, which has to keep its gaps and to hold no NaN but the canonical one.
    fn stored<T: Element>(&self, f: impl FnOnce(Output<'_>) -> Result<()>) -> Result<Vec<u32>>
    where
        for<'a> Output<'a>: From<MatMut<'a, T>>,
    {
        let (rows, n, stride) = self.output_shape();
        let before = T::from_f32(-1.25);
        let mut y = vec![before; rows * stride];
        f(view_mut(&mut y, rows, n, stride).into())?;
        for row in y.chunks_exact(stride.max(1)) {
            assert!(row[n..].iter().all(|&y| y == before), "an element between rows changed");
            assert!(row[..n].iter().all(|&y| is_canonical(y)), "a NaN that is not canonical");
        }
        Ok(y.into_iter().map(|y| y.to_f32().to_bits()).collect())
    }

    fn accumulated(&self, f: impl FnOnce(Activations<'_>, Mode, MatMut<'_, f32>) -> Result<()>) -> Result<Vec<u32>> {
        let (rows, n, stride) = self.output_shape();
        let mut y = self.start[..rows * stride].to_vec();
        f(self.activations(), self.mode, view_mut(&mut y, rows, n, stride))?;
        let (done, start) = (y.chunks_exact(stride.max(1)), self.start.chunks_exact(stride.max(1)));
        for (row, start) in done.zip(start) {
            let kept = row[n..]
                .iter()
                .zip(&start[n..])
                .all(|(y, s)| y.to_bits() == s.to_bits());
            assert!(kept, "an element between rows changed");
            assert!(row[..n].iter().all(|&y| is_canonical(y)), "a NaN that is not canonical");
        }
        Ok(y.into_iter().map(f32::to_bits).collect())
    }

    fn sums_len(&self) -> usize {
        self.m * self.weights.groups() * self.weights.n() + usize::from(self.misfit == Some(Misfit::Sums))
    }

    fn sums(&self, f: impl FnOnce(Activations<'_>, Mode, GroupSums<'_>) -> Result<()>) -> Result<Vec<i64>> {
        let mut sums = vec![-77; self.sums_len()];
        f(self.activations(), self.mode, GroupSums::I64(&mut sums))?;
        Ok(sums)
    }

    fn narrow_sums(&self, f: impl FnOnce(Activations<'_>, Mode, GroupSums<'_>) -> Result<()>) -> Result<Vec<i32>> {
        let mut sums = vec![-77; self.sums_len()];
        f(self.activations(), self.mode, GroupSums::I32(&mut sums))?;
        Ok(sums)
    }
}

impl Answers {
    /// Panics unless these are the expected answers; `who` gave them.
    pub fn check(&self, expected: &Self, who: &dyn Fn() -> String) {
        assert!(
            self.run == expected.run,
            "{}: run\n{:?}\n{:?}",
            who(),
            self.run,
            expected.run
        );
        let (found, right) = (&self.accumulated, &expected.accumulated);
        assert!(found == right, "{}: accumulate\n{found:?}\n{right:?}", who());
        let (found, right) = (&self.sums, &expected.sums);
        assert!(found == right, "{}: group_sums in i64\n{found:?}\n{right:?}", who());
        let (found, right) = (&self.narrow_sums, &expected.narrow_sums);
        assert!(found == right, "{}: group_sums in i32\n{found:?}\n{right:?}", who());
    }

    /// Whether nothing was computed.
    #[must_use]
    pub fn are_refusals(&self) -> bool {
        self.run.is_err() && self.accumulated.is_err() && self.sums.is_err() && self.narrow_sums.is_err()
    }
}

fn view_mut<T>(values: &mut [T], rows: usize, columns: usize, stride: usize) -> MatMut<'_, T> {
    MatMut::with_stride(values, rows, columns, stride).expect("a row of values for every row")
}

fn is_canonical<T: Element>(y: T) -> bool {
    let y = y.to_f32();
    !y.is_nan() || y.to_bits() == CANONICAL_NAN
}
