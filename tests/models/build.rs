//! The sources that are modelled leave out here what loom's atomics can't have.

fn main() {
    println!("cargo::rustc-cfg=loom");
}
