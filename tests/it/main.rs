//! The one integration-test binary.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod clients;
mod generated;
mod tidy;

/// Where this package is. It is asked for when the tests run: a target folder can serve several clones, and what was
/// built in one of them is taken for up to date in another.
fn root() -> std::path::PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the package is").into()
}
