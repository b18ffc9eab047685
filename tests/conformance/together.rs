//! Several products on one input are the same bits as one after the other, whoever works.
#![forbid(unsafe_code)]

use crate::compare::bits;
use mixgemm::kernel::select::select;
use mixgemm::kernel::{Family, Kernel};
use mixgemm::testing::{Backwards, Draw, Inputs, weights};
use mixgemm::{
    Activation, Activations, CodeBook, Epilogue, Error, Gemm, Host, Isa, Mat, Mode, Output, Par, Plan, Pool, Product,
    QuantMatrix, Scheme, Workspace, bf16, f16, reference,
};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const K: usize = 70;

/// Weights that agree, that agree but for N, and that differ in each property that packed activations depend on.
fn all_weights(draw: &mut Draw) -> Vec<QuantMatrix> {
    let four = Scheme::int(4).group(16).asymmetric();
    let schemes = [
        (four, 33),
        (four, 100),
        (Scheme::int(8).group(16).asymmetric(), 40),
        (Scheme::int(4).group(16), 40),
        (Scheme::int(4).group(32).asymmetric(), 40),
        (four, 1),
        (Scheme::int(3).group(16), 65),
        (Scheme::int(4).group(16).float_zero(), 17),
        (Scheme::int(1).group(16).asymmetric(), 40),
        (Scheme::int(1).group(16).asymmetric(), 33),
        (Scheme::book(CodeBook::MXFP4).group(16), 40),
        (Scheme::book(CodeBook::IQ4_NL).group(16), 33),
        (Scheme::book(CodeBook::MXFP4).group(16), 65),
    ];
    schemes.map(|(scheme, n)| weights(draw, scheme, n, K)).into()
}

/// An output of one of the three types.
enum Y {
    F32(Mat<f32>),
    F16(Mat<f16>),
    Bf16(Mat<bf16>),
}

impl Y {
    fn new(which: usize, m: usize, n: usize) -> Self {
        match which % 3 {
            0 => Self::F32(Mat::zeros(m, n)),
            1 => Self::F16(Mat::zeros(m, n)),
            _ => Self::Bf16(Mat::zeros(m, n)),
        }
    }

    fn view(&mut self) -> Output<'_> {
        match self {
            Self::F32(y) => y.view_mut().into(),
            Self::F16(y) => y.view_mut().into(),
            Self::Bf16(y) => y.view_mut().into(),
        }
    }

    fn bits(&self) -> Vec<u32> {
        match self {
            Self::F32(y) => bits(y.data()),
            Self::F16(y) => y.data().iter().map(|y| y.to_bits().into()).collect(),
            Self::Bf16(y) => y.data().iter().map(|y| y.to_bits().into()).collect(),
        }
    }
}

/// Epilogues that differ from product to product.
fn epilogue<'a>(i: usize, bias: &'a [f32], residual: &'a Mat<f32>) -> Epilogue<'a> {
    match i % 4 {
        0 => Epilogue::new(),
        1 => Epilogue::new().bias(bias),
        2 => Epilogue::new().bias(bias).activation(Activation::Gelu),
        _ => Epilogue::new().activation(Activation::Relu).residual(residual.view()),
    }
}

fn workers() -> [Par; 5] {
    let count = |n| NonZeroUsize::new(n).unwrap();
    [
        Par::Seq,
        Par::Rayon(count(2)),
        Par::Pool(Arc::new(Backwards(count(1)))),
        Par::Pool(Arc::new(Backwards(count(3)))),
        Par::Pool(Arc::new(Backwards(count(64)))),
    ]
}

fn check(
    gemms: &[Gemm],
    all: &[QuantMatrix],
    (mode, x): (Mode, Activations<'_>),
    par: &Par,
    workspace: &mut Workspace,
) {
    let m = x.shape().0;
    let plans: Vec<Plan> = gemms.iter().map(|g| g.plan(mode).unwrap().par(par.clone())).collect();
    let biases: Vec<Vec<f32>> = all
        .iter()
        .map(|w| (0..w.n()).map(|n| n as f32 * 0.1).collect())
        .collect();
    let residuals: Vec<Mat<f32>> = all
        .iter()
        .map(|w| Mat::from_fn(m, w.n(), |m, n| (m + n) as f32))
        .collect();
    let outputs = || -> Vec<Y> { all.iter().enumerate().map(|(i, w)| Y::new(i, m, w.n())).collect() };
    let (mut together, mut alone) = (outputs(), outputs());
    let with = |i: usize| epilogue(i, &biases[i], &residuals[i]);
    let mut products: Vec<Product<'_>> = Vec::new();
    for (i, (plan, y)) in plans.iter().zip(&mut together).enumerate() {
        products.push(Product::new(plan, y.view()).epilogue(with(i)));
    }
    let report = Plan::run_all(workspace, x, &mut products).unwrap();
    let rows: usize = all.iter().map(QuantMatrix::n).sum();
    assert_eq!(report.counters.macs, (m * K * rows) as u64);
    for (i, (w, y)) in all.iter().zip(&mut alone).enumerate() {
        reference::run(w, x, mode, &with(i), y.view()).unwrap();
        assert!(
            together[i].bits() == y.bits(),
            "product {i} of {mode:?}, {m} rows on {par:?}"
        );
    }
}

#[test]
fn products_together_are_the_products_alone() {
    let draw = &mut Draw::new(81);
    let all = all_weights(draw);
    for isa in Isa::ALL.into_iter().filter(|isa| isa.supported()) {
        let host = Host::new().isa(isa).unwrap();
        let gemms: Vec<Gemm> = all.iter().map(|w| host.prepare(w).unwrap()).collect();
        let mut workspace = Workspace::new();
        for m in [1, 3, 29] {
            let inputs = Inputs::new(draw, m, K);
            for case in inputs.cases() {
                for par in workers() {
                    check(&gemms, &all, case, &par, &mut workspace);
                }
            }
        }
    }
}

/// Tiles of tables serve no kernel that multiplies, nor the other way round, though the tiles be as high.
#[test]
fn kernels_that_read_other_activations_have_tiles_of_their_own() {
    let draw = &mut Draw::new(86);
    let w = weights(draw, Scheme::int(1).group(32), 40, K);
    let inputs = Inputs::new(draw, 13, K);
    let (mode, x) = (Mode::A8, inputs.f32.view().into());
    let mut expected = Mat::<f32>::zeros(13, 40);
    reference::run(&w, x, mode, &Epilogue::new(), expected.view_mut().into()).unwrap();
    for isa in Isa::ALL.into_iter().filter(|isa| isa.supported()) {
        let gemm = Host::new().isa(isa).unwrap().prepare(&w).unwrap();
        let selection = select(isa, gemm.weights().layout().panel, mode).unwrap();
        let heights: Vec<usize> = selection.heights().collect();
        let usual = gemm.plan(mode).unwrap();
        let multiplies = |k: &Kernel| !matches!(k.family, Family::Plane | Family::Table) && heights.contains(&k.mr);
        let other = usual.clone().prefer(multiplies);
        for plans in [[&usual, &other], [&other, &usual]] {
            let mut outputs = [0; 2].map(|_| Mat::<f32>::zeros(13, 40));
            let products = plans.iter().zip(&mut outputs);
            let products = &mut products
                .map(|(plan, y)| Product::new(plan, y.view_mut()))
                .collect::<Vec<_>>();
            Plan::run_all(&mut Workspace::new(), x, products).unwrap();
            for y in &outputs {
                assert!(bits(y.data()) == bits(expected.data()), "{isa}");
            }
        }
    }
}

/// A pool that counts what it is asked for.
struct Counting(AtomicUsize);

impl Pool for Counting {
    fn threads(&self) -> NonZeroUsize {
        NonZeroUsize::new(2).unwrap()
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        self.0.fetch_add(1, Ordering::SeqCst);
        (0..tasks).for_each(task);
    }
}

#[test]
fn threads_are_woken_once_for_many_products() {
    let draw = &mut Draw::new(82);
    let scheme = Scheme::int(4).group(16).asymmetric();
    let gemm = Host::new().prepare(&weights(draw, scheme, 40, K)).unwrap();
    let inputs = Inputs::new(draw, 1, K);
    for (count, calls) in [(1, 1), (3, 1), (16, 1), (17, 2), (40, 3)] {
        let pool = Arc::new(Counting(AtomicUsize::new(0)));
        let plan = gemm.plan(Mode::A8).unwrap().par(Par::Pool(pool.clone()));
        let mut outputs: Vec<Mat<f32>> = (0..count).map(|_| Mat::zeros(1, 40)).collect();
        let mut products: Vec<_> = outputs.iter_mut().map(|y| Product::new(&plan, y.view_mut())).collect();
        Plan::run_all(&mut Workspace::new(), inputs.f32.view().into(), &mut products).unwrap();
        assert_eq!(pool.0.load(Ordering::SeqCst), calls, "{count} products");
        assert!(outputs.iter().all(|y| y.data() == outputs[0].data()));
        assert!(outputs[0].data().iter().any(|&y| y != 0.0));
    }
}

/// No products, no rows and no columns are no work.
#[test]
fn nothing_to_do_is_no_error() {
    let draw = &mut Draw::new(83);
    let scheme = Scheme::int(4).group(16);
    let host = Host::new();
    let gemms = [0, 5].map(|n| host.prepare(&weights(draw, scheme, n, K)).unwrap());
    let plans = gemms.map(|gemm| gemm.plan(Mode::A8).unwrap());
    let (x, none) = (Mat::<f32>::from_fn(2, K, |_, k| k as f32), Mat::<f32>::zeros(0, K));
    let workspace = &mut Workspace::new();
    assert_eq!(Plan::run_all(workspace, x.view().into(), &mut []).unwrap().kernel, "");
    let (mut empty, mut some) = (Mat::<f32>::zeros(2, 0), Mat::<f32>::zeros(2, 5));
    let both = &mut [
        Product::new(&plans[0], empty.view_mut()),
        Product::new(&plans[1], some.view_mut()),
    ];
    Plan::run_all(workspace, x.view().into(), both).unwrap();
    assert!(some.data().iter().any(|&y| y != 0.0));
    let (mut empty, mut some) = (Mat::<f32>::zeros(0, 0), Mat::<f32>::zeros(0, 5));
    let both = &mut [
        Product::new(&plans[0], empty.view_mut()),
        Product::new(&plans[1], some.view_mut()),
    ];
    Plan::run_all(workspace, none.view().into(), both).unwrap();
}

/// The second product's operand is refused by name and number.
#[test]
fn operands_that_do_not_fit_are_named_and_numbered() {
    let draw = &mut Draw::new(84);
    let scheme = Scheme::int(4).group(16).asymmetric();
    let host = Host::new();
    let plan = |w: &QuantMatrix| host.prepare(w).unwrap().plan(Mode::A8).unwrap();
    let (good, longer) = (
        plan(&weights(draw, scheme, 20, K)),
        plan(&weights(draw, scheme, 20, K + 1)),
    );
    let exact = host
        .prepare(&weights(draw, scheme, 20, K))
        .unwrap()
        .plan(Mode::Exact)
        .unwrap();
    let x = Mat::<f32>::from_fn(2, K, |_, k| k as f32);
    let (bias, residual) = ([0.0; 19], Mat::<f32>::zeros(2, 21));
    let plain = Epilogue::new();
    for (second, shape, epilogue, argument) in [
        (&good, (2, 21), plain, "y"),
        (&good, (3, 20), plain, "y"),
        (&longer, (2, 20), plain, "x"),
        (&exact, (2, 20), plain, "x"),
        (&good, (2, 20), plain.bias(&bias), "bias"),
        (&good, (2, 20), plain.residual(residual.view()), "residual"),
    ] {
        let (mut y, mut z) = (Mat::<f32>::zeros(2, 20), Mat::<f32>::zeros(shape.0, shape.1));
        let products = &mut [
            Product::new(&good, y.view_mut()),
            Product::new(second, z.view_mut()).epilogue(epilogue),
        ];
        let error = Plan::run_all(&mut Workspace::new(), x.view().into(), products).unwrap_err();
        let (Error::Shape { argument: named, .. } | Error::Unsupported { argument: named, .. }) = &error else {
            panic!("{error}");
        };
        assert_eq!(*named, argument, "{error}");
        assert!(error.to_string().ends_with(" in product 1"), "{error}");
    }
}

/// Inputs that a mode refuses, found while they are packed, are refused for all.
#[test]
fn refused_inputs_are_refused_together() {
    let draw = &mut Draw::new(85);
    let gemm = Host::new()
        .prepare(&weights(draw, Scheme::int(4).group(16), 20, K))
        .unwrap();
    let mode = Mode::A8Static {
        scale: 0.01,
        saturate: false,
    };
    let plan = gemm.plan(mode).unwrap();
    let x = Mat::<f32>::from_fn(2, K, |m, k| if (m, k) == (1, 3) { 1e6 } else { 0.0 });
    let (mut y, mut z) = (Mat::<f32>::zeros(2, 20), Mat::<f32>::zeros(2, 20));
    let products = &mut [Product::new(&plan, y.view_mut()), Product::new(&plan, z.view_mut())];
    let error = Plan::run_all(&mut Workspace::new(), x.view().into(), products).unwrap_err();
    assert!(matches!(error, Error::Value { .. }), "{error}");
}
