//! Shared by the pods.
