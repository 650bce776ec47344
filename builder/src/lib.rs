//! From a Containerfile to an image.
//!
//! `text → parse → stages → lower → graph → solver → assemble`. Everything up to the graph is pure data and touches
//! nothing; the solver runs steps through the traits in [`ports`], which the engine fills in.
#![forbid(unsafe_code)]

pub mod diagnostic;
pub mod epoch;
pub mod expand;
pub mod ignore;
pub mod instruction;
pub mod lint;
pub mod parse;
pub mod stages;

pub mod assemble;
pub mod build;
pub mod cache;
pub mod call;
pub mod context;
pub mod explain;
pub mod graph;
pub mod lower;
pub mod ops;
pub mod ports;
pub mod secrets;
pub mod solver;

pub mod testing;
