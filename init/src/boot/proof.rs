//! Proofs that a stage of the boot has run, so that no stage can run too early.
//!
//! A stage takes the proofs of the stages that it needs and returns its own. Only this folder can
//! make proofs.

/// Proof that `/dev`, `/proc` and `/sys` are mounted.
#[derive(Debug)]
pub struct Early(pub(super) ());

/// Proof that the tree of control groups exists.
#[derive(Debug)]
pub struct Groups(pub(super) ());

/// Proof that `/` is the read-only root.
#[derive(Debug)]
pub struct Root(pub(super) ());

/// Proof that the tree of mounts is complete except for `/var`.
#[derive(Debug)]
pub struct Tree(pub(super) ());

/// Proof that `/etc` is filled.
#[derive(Debug)]
pub struct Etc(pub(super) ());
