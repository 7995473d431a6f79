//! Black-box tests: real namespaces, real daemon, real control tool
