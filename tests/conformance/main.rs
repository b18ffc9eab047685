//! Every backend, mode, scheme and hurtful shape against the reference, bit for bit.
#![forbid(unsafe_code)]
#![cfg(feature = "testing")]

mod compare;
mod random;
mod refusals;
mod special;
mod threads;
mod together;
mod values;
mod views;
mod wide;
