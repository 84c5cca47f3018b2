//! The tree of a YAML file: every node with the bytes it was written in, so that whatever is wrong has its place.
//!
//! Nodes lie in one list and name each other by index: a node is cheap to name in an error, to replace by a stand-in, and
//! no depth of nesting can overflow a stack.

use std::ops::Range;
use std::sync::Arc;

use super::problem::{Place, Written};

/// A node of one tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeId(usize);

/// A file as nodes.
#[derive(Debug)]
pub struct Tree {
    pub(super) written: Arc<Written>,
    nodes: Vec<Node>,
}

/// One node.
#[derive(Debug)]
pub struct Node {
    pub span: Range<usize>,
    pub parent: Option<NodeId>,
    pub name: Name,
    pub kind: Kind,
    /// Its text came from a variable or is a secret, and is not printed.
    pub hidden: bool,
}

/// What a node is called in its parent.
#[derive(Debug, Clone)]
pub enum Name {
    Root,
    /// The key, and the bytes of it.
    Key(String, Range<usize>),
    Index(usize),
}

/// What a node is.
#[derive(Debug)]
pub enum Kind {
    /// A text; plain ones may also be a number, `true` or nothing at all.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<NodeId>),
    Map(Vec<NodeId>),
    /// Stands in for something that is wrong (and reported), so that reading goes on: see [`super::read`].
    StandIn {
        attempt: u8,
    },
}

impl Tree {
    /// The node that all others are under.
    pub const ROOT: NodeId = NodeId(0);

    /// No nodes yet; the first one added is the root.
    pub(super) fn new(written: Arc<Written>) -> Tree {
        Tree { written, nodes: Vec::new() }
    }

    /// Adds a node; whoever made its name puts it into its parent.
    pub(super) fn add(&mut self, span: Range<usize>, parent: Option<NodeId>, name: Name, kind: Kind) -> NodeId {
        self.nodes.push(Node { span, parent, name, kind, hidden: false });
        NodeId(self.nodes.len() - 1)
    }

    /// The node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// The node, to change.
    pub(super) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0]
    }

    /// All nodes, also those that hang nowhere.
    pub(super) fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len()).map(NodeId)
    }

    /// The nodes directly below.
    pub fn children(&self, id: NodeId) -> &[NodeId] {
        match &self.node(id).kind {
            Kind::List(children) | Kind::Map(children) => children,
            Kind::Scalar { .. } | Kind::StandIn { .. } => &[],
        }
    }

    /// The node of a key.
    pub fn child(&self, id: NodeId, wanted: &str) -> Option<NodeId> {
        self.children(id).iter().copied().find(|child| match &self.node(*child).name {
            Name::Key(key, _) => key == wanted,
            Name::Index(index) => index.to_string() == wanted,
            Name::Root => false,
        })
    }

    /// Whether something in or below this node is wrong and reported.
    pub fn has_stand_in(&self, id: NodeId) -> bool {
        // Depth is limited when the tree is made, so this recursion is too.
        matches!(self.node(id).kind, Kind::StandIn { .. }) || self.children(id).iter().any(|id| self.has_stand_in(*id))
    }

    /// The place of a node by its way from the root, such as `sink.object_store.prefix` or `transforms.0`; of what is
    /// not written (a default), the nearest node above it.
    pub fn place(&self, way: &str) -> Place {
        self.place_below(Tree::ROOT, way.split('.').filter(|step| !step.is_empty()))
    }

    /// As [`Tree::place`], for ways with keys that hold dots.
    pub fn place_of(&self, way: &[&str]) -> Place {
        self.place_below(Tree::ROOT, way.iter().copied())
    }

    /// The place of a key (not of its value) by its way.
    pub fn place_of_key(&self, way: &[&str]) -> Place {
        match self.find(way) {
            Some(id) => self.key_place(id),
            None => self.place_of(way),
        }
    }

    /// Whether what stands at `way` was written, and nothing in it is known to be wrong.
    pub fn is_sound(&self, way: &[&str]) -> bool {
        self.find(way).is_some_and(|id| !self.has_stand_in(id))
    }

    /// The text of a scalar.
    pub(super) fn text_of(&self, way: &[&str]) -> Option<&str> {
        match &self.node(self.find(way)?).kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// `value`, or where it came from a variable what is written in its place.
    pub(super) fn as_written(&self, way: &[&str], value: &str) -> String {
        match self.find(way).map(|id| self.node(id)).filter(|node| node.hidden) {
            Some(node) => {
                self.written.text.get(node.span.clone()).unwrap_or_default().trim_matches(['"', '\'']).to_owned()
            }
            None => value.to_owned(),
        }
    }

    fn find(&self, way: &[&str]) -> Option<NodeId> {
        way.iter().try_fold(Tree::ROOT, |id, step| self.child(id, step))
    }

    fn place_below<'w>(&self, mut id: NodeId, way: impl Iterator<Item = &'w str>) -> Place {
        let mut settled = self.is_stand_in(id);
        for step in way {
            let Some(child) = self.child(id, step) else { break };
            id = child;
            settled |= self.is_stand_in(id);
        }
        self.scalar_place(id).settled(settled)
    }

    /// Where a node stands, and where inside it its text begins.
    pub(super) fn scalar_place(&self, id: NodeId) -> Place {
        self.node_place(id).with_text(self.text_start(id), self.node(id).hidden)
    }

    fn is_stand_in(&self, id: NodeId) -> bool {
        matches!(self.node(id).kind, Kind::StandIn { .. })
    }

    /// Where a node stands: a scalar in its bytes, a collection at the key that it belongs to.
    pub(super) fn node_place(&self, id: NodeId) -> Place {
        let node = self.node(id);
        match &node.kind {
            Kind::Scalar { .. } if !node.span.is_empty() => {
                Place::of_span(self.written.clone(), self.one_line(&node.span))
            }
            _ => self.key_place(id),
        }
    }

    /// Where a node's key stands; of a list's item its first character.
    pub(super) fn key_place(&self, id: NodeId) -> Place {
        let node = self.node(id);
        let span = match &node.name {
            Name::Key(_, span) => span.clone(),
            Name::Root | Name::Index(_) => node.span.start..node.span.start + 1,
        };
        Place::of_span(self.written.clone(), span)
    }

    /// The way to a node as messages print it: `sink.object_store.prefix`, `transforms[0]`; empty for the root.
    pub(super) fn way(&self, id: NodeId) -> String {
        let node = self.node(id);
        let above = node.parent.map(|parent| self.way(parent)).unwrap_or_default();
        match &node.name {
            Name::Root => above,
            Name::Key(key, _) if above.is_empty() => shown(key),
            Name::Key(key, _) => format!("{above}.{}", shown(key)),
            Name::Index(index) => format!("{above}[{index}]"),
        }
    }

    /// `transforms.0.jq` as messages print it: `transforms[0].jq`.
    pub(super) fn shown_way(&self, way: &str) -> String {
        let steps: Vec<&str> = way.split('.').collect();
        let deepest = (0..=steps.len()).rev().find_map(|count| Some((count, self.find(&steps[..count])?)));
        let (count, id) = deepest.unwrap_or((0, Tree::ROOT));
        std::iter::once(self.way(id))
            .chain(steps[count..].iter().map(|step| (*step).to_owned()))
            .collect::<Vec<_>>()
            .join(".")
    }

    /// Where the text of a scalar begins in the file, if its bytes stand there as they are.
    fn text_start(&self, id: NodeId) -> Option<usize> {
        let node = self.node(id);
        let Kind::Scalar { text, plain } = &node.kind else { return None };
        let start = node.span.start + usize::from(!plain);
        let end = node.span.end.checked_sub(usize::from(!plain))?;
        (!node.hidden && self.written.text.get(start..end)?.trim_end() == text).then_some(start)
    }

    fn one_line(&self, span: &Range<usize>) -> Range<usize> {
        let text = self.written.text.get(span.clone()).unwrap_or_default();
        let line = text.split('\n').next().unwrap_or_default().trim_end();
        span.start..span.start + line.len()
    }
}

/// A text from the file, short enough for a message.
pub(super) fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    match text.chars().count() > CHARS_MAX {
        true => text.chars().take(CHARS_MAX).chain(['…']).collect(),
        false => text.to_owned(),
    }
}
