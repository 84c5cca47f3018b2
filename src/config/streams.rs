//! Pipelines that read the same stream share its spool, and so must say the same about it.

use std::collections::BTreeMap;

use super::problem::Problems;
use super::{FedBy, PipelineSpec, StreamSpec};

/// What one pipeline says about the stream that it reads.
#[derive(Debug, Clone, Copy)]
pub struct OnStream<'s> {
    /// The pipeline.
    pub name: &'s str,
    /// What it runs with now, if it runs and reads a stream.
    pub runs: Option<&'s StreamSpec>,
    /// What its file says, if that is to run in place of it.
    pub wants: Option<&'s PipelineSpec>,
}

impl<'s> OnStream<'s> {
    fn wanted(&self) -> Option<&'s StreamSpec> {
        self.wants?.stream()
    }
}

/// The pipelines whose files cannot be taken as they are, because another one says something else about the same stream;
/// with what is wrong. The fault is with what is new: files that change their stream together are taken together, and one
/// that stands alone waits for the others. Of new ones only, the first is right.
pub fn agree_on_streams(pipelines: &[OnStream<'_>]) -> Vec<(String, Problems)> {
    let mut refused: BTreeMap<&str, Problems> = BTreeMap::new();
    // One that is refused runs on as it did, and may then be the one that others disagree with.
    loop {
        let mut first_of: BTreeMap<&str, (&str, &StreamSpec)> = BTreeMap::new();
        let is_taken = |of: &&OnStream<'_>| of.wants.is_some() && !refused.contains_key(of.name);
        for of in pipelines.iter().filter(|of| !is_taken(of)) {
            if let Some(stream) = of.runs {
                first_of.entry(&stream.name).or_insert((of.name, stream));
            }
        }
        let mut newly = BTreeMap::new();
        for of in pipelines.iter().filter(is_taken) {
            let (Some(stream), Some(spec)) = (of.wanted(), of.wants) else { continue };
            let (first_name, first) = *first_of.entry(&stream.name).or_insert((of.name, stream));
            let problems = disagreements(spec, stream, first_name, first);
            if !problems.is_empty() {
                newly.insert(of.name, problems);
            }
        }
        if newly.is_empty() {
            return refused.into_iter().map(|(name, problems)| (name.to_owned(), problems)).collect();
        }
        refused.extend(newly);
    }
}

fn disagreements(spec: &PipelineSpec, stream: &StreamSpec, first_name: &str, first: &StreamSpec) -> Problems {
    let mut problems = Problems::new();
    if first.spool_bytes_max != stream.spool_bytes_max || first.once_window != stream.once_window {
        let message = format!("the stream `{}` has another `spool` in pipeline `{first_name}`", stream.name);
        problems.push(spec.places.spool.clone(), message, Some("write the same in both".into()));
    }
    if (first.fed_by == FedBy::Stdin || stream.fed_by == FedBy::Stdin) && first.fed_by != stream.fed_by {
        let message = format!("the stream `{}` is fed by standard input already", stream.name);
        problems.push(spec.places.source.clone(), message, Some("rename the pipeline or the stream".into()));
    }
    problems
}
