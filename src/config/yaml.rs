//! From a YAML text to a tree, with limits, and with words for people where it is not YAML.
//!
//! Of YAML only what a pipeline needs: one document of maps, lists and scalars. Anchors, aliases, merge keys and tags are
//! refused, each with its place: without them no text can grow when it is read, and nothing means more than it says.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::problem::{Place, Problems, Written};
use super::tree::{Kind, Name, NodeId, Tree, shown};

/// A longer file is refused before it is parsed, in bytes.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// Maps and lists may be nested this deep.
pub const DEPTH_MAX: usize = 64;

/// The tree of a file; `None` if it is no YAML or is empty, which is then among the problems. A tree may come with problems
/// too: what they are about is replaced by stand-ins, so that reading can go on to find more.
pub fn parse(written: Arc<Written>, problems: &mut Problems) -> Option<Tree> {
    let options = granit_parser::options! {
        disallow_directives: true,
        emit_unresolved_aliases: true,
        emit_anchor_events: true,
        flow_nesting_limit: DEPTH_MAX,
        block_nesting_limit: DEPTH_MAX,
    };
    let text = written.clone();
    let mut builder = Builder { tree: Tree::new(written), open: Vec::new(), problems, documents: 0 };
    for event in Parser::new_from_str_with_options(&text.text, options) {
        let read = event.map_err(|error| explain(&text, &error)).and_then(|(event, span)| builder.take(event, span));
        match read {
            Ok(true) => {}
            Ok(false) => break,
            Err(Wrong { span, message, hint }) => {
                builder.problems.push(Place::of_span(text.clone(), span), message, hint);
                return None;
            }
        }
    }
    if builder.documents == 0 {
        problems.push(Place::of_span(text, 0..0), "the file is empty", None);
        return None;
    }
    Some(builder.tree)
}

/// What ends parsing.
struct Wrong {
    span: Range<usize>,
    message: String,
    hint: Option<String>,
}

/// Puts nodes together; the collections that are still open lie in a list, not on the call stack.
struct Builder<'p> {
    tree: Tree,
    open: Vec<Open>,
    problems: &'p mut Problems,
    documents: usize,
}

struct Open {
    id: NodeId,
    /// In a map: the key that waits for its value, and whether the value hangs in the tree (a duplicate does not).
    key: Option<(String, Range<usize>, bool)>,
    /// In a map: its keys and where they begin.
    keys: HashMap<String, usize>,
}

impl Builder<'_> {
    /// Whether parsing goes on.
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<bool, Wrong> {
        let bytes = span.byte_range().unwrap_or_default();
        match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.problem(bytes, "a second document begins here", Some("one file is one pipeline".into()));
                    return Ok(false);
                }
            }
            Event::Scalar(text, style, _, tag) => {
                if self.awaits_key() && tag.is_none() {
                    self.take_key(text.into_owned(), style, bytes);
                } else {
                    let plain = style == ScalarStyle::Plain;
                    let kind = Kind::Scalar { text: text.into_owned(), plain };
                    self.add(bytes, kind, tag.map(|tag| (tag.into_owned(), span)))?;
                }
            }
            Event::SequenceStart(_, _, tag) => {
                let id = self.add(bytes, Kind::List(Vec::new()), tag.map(|tag| (tag.into_owned(), span)))?;
                self.open(id)?;
            }
            Event::MappingStart(_, _, tag) => {
                let id = self.add(bytes, Kind::Map(Vec::new()), tag.map(|tag| (tag.into_owned(), span)))?;
                self.open(id)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.open.pop();
            }
            Event::Anchor(_, name) => {
                let message = format!("YAML anchors are not supported, found `&{}`", shown(&name));
                self.problem(bytes, message, Some("write the value out, or put a text into quotes".into()));
            }
            // Its anchor was reported.
            Event::Alias(_) => {
                self.add(bytes, Kind::StandIn { attempt: 0 }, None)?;
            }
            Event::UnresolvedAlias(name) => {
                let message = format!("YAML aliases are not supported, found `*{}`", shown(&name));
                self.problem(
                    bytes.clone(),
                    message,
                    Some(format!("put the text into quotes: `\"*{}\"`", shown(&name))),
                );
                self.add(bytes, Kind::StandIn { attempt: 0 }, None)?;
            }
            // Comments, which are not asked for.
            _ => {}
        }
        Ok(true)
    }

    fn awaits_key(&self) -> bool {
        self.open.last().is_some_and(|open| open.key.is_none() && matches!(self.tree.node(open.id).kind, Kind::Map(_)))
    }

    fn take_key(&mut self, key: String, style: ScalarStyle, span: Range<usize>) {
        let written = self.tree.written.clone();
        let Some(open) = self.open.last_mut() else { return };
        let mut hangs = true;
        if key == "<<" && style == ScalarStyle::Plain {
            hangs = false;
            let hint = Some("write its keys out".into());
            self.problems.push(Place::of_span(written, span.clone()), "YAML merge keys (`<<`) are not supported", hint);
        } else if let Some(first) = open.keys.get(&key) {
            hangs = false;
            let line = written.text.get(..*first).unwrap_or_default().matches('\n').count() + 1;
            let message = format!("the key `{}` stands here twice, first in line {line}", shown(&key));
            self.problems.push(Place::of_span(written, span.clone()), message, Some("remove one of them".into()));
        } else {
            open.keys.insert(key.clone(), span.start);
        }
        open.key = Some((key, span, hangs));
    }

    fn add(&mut self, span: Range<usize>, kind: Kind, tag: Option<(Tag, Span)>) -> Result<NodeId, Wrong> {
        if self.awaits_key() {
            return Err(Wrong {
                span,
                message: "a key must be a plain text".into(),
                hint: Some("put a text with `{` or `[` in it into quotes".into()),
            });
        }
        let collection = !matches!(kind, Kind::Scalar { .. });
        let kind = match tag {
            None => kind,
            Some((tag, at)) => {
                let at = at.tag_span().and_then(|span| span.byte_range()).unwrap_or(span.clone());
                let message = format!("YAML tags are not supported, found `{}`", shown(&tag.original()));
                self.problem(at, message, Some("remove it, or put a text that begins with `!` into quotes".into()));
                if collection { kind } else { Kind::StandIn { attempt: 0 } }
            }
        };
        let parent = self.open.last().map(|open| open.id);
        let Some(open) = self.open.last_mut() else { return Ok(self.tree.add(span, None, Name::Root, kind)) };
        let (name, hangs) = match open.key.take() {
            Some((key, at, hangs)) => (Name::Key(key, at), hangs),
            None => (Name::Index(self.tree.children(open.id).len()), true),
        };
        let above = open.id;
        let id = self.tree.add(span, parent, name, kind);
        if hangs && let Kind::List(children) | Kind::Map(children) = &mut self.tree.node_mut(above).kind {
            children.push(id);
        }
        Ok(id)
    }

    fn open(&mut self, id: NodeId) -> Result<(), Wrong> {
        if self.open.len() == DEPTH_MAX {
            return Err(too_deep(self.tree.node(id).span.clone()));
        }
        self.open.push(Open { id, key: None, keys: HashMap::new() });
        Ok(())
    }

    fn problem(&mut self, span: Range<usize>, message: impl Into<String>, hint: Option<String>) {
        self.problems.push(Place::of_span(self.tree.written.clone(), span), message, hint);
    }
}

fn too_deep(span: Range<usize>) -> Wrong {
    Wrong { span, message: format!("nested deeper than {DEPTH_MAX} levels"), hint: None }
}

/// What is not YAML, in words for someone who does not know the grammar.
fn explain(written: &Written, error: &ScanError) -> Wrong {
    let text = written.text.as_str();
    let at = text.floor_char_boundary(error.marker().byte_offset().unwrap_or(text.len()));
    let wrong = |message: &str, hint: Option<&str>| Wrong {
        span: at..at + text[at..].chars().next().map_or(0, char::len_utf8),
        message: message.to_owned(),
        hint: hint.map(str::to_owned),
    };
    if let ErrorKind::RecursionLimitExceeded = error.kind() {
        return too_deep(at..at + 1);
    }
    if let Some(tab) = indenting_tab(text, at) {
        return Wrong {
            span: tab..tab + 1,
            message: "a tab indents this line, where YAML allows only spaces".into(),
            hint: Some("use two spaces for each level".into()),
        };
    }
    let template = looks_like_template(line_at(text, at)).then_some("put a text with `{` in it into quotes");
    match error.kind() {
        ErrorKind::UnexpectedCharacter { character: '\0' } => wrong("a NUL byte stands in the text", None),
        ErrorKind::UnexpectedCharacter { character } if character.is_control() => {
            wrong(&format!("the control character U+{:04X} stands in the text", u32::from(*character)), None)
        }
        ErrorKind::UnexpectedCharacter { character } => {
            wrong(&format!("a text cannot begin with `{character}`"), Some("put it into quotes"))
        }
        ErrorKind::DirectiveDisallowed => wrong("YAML directives (`%`) are not supported", Some("remove the line")),
        ErrorKind::UnclosedQuotedScalar | ErrorKind::InvalidQuotedScalarIndent => wrong("a quote is not closed", None),
        ErrorKind::UnknownQuotedScalarEscape => wrong(
            "an unknown escape stands in double quotes",
            Some("write `\\\\` for a backslash, or use single quotes"),
        ),
        ErrorKind::InvalidTrailingSingleQuotedScalar | ErrorKind::InvalidTrailingDoubleQuotedScalar => {
            wrong("a text goes on behind its closing quote", Some("put all of it into quotes"))
        }
        ErrorKind::UnclosedFlowCollection { open } => wrong(&format!("`{open}` is not closed"), template),
        ErrorKind::MappingValueNotAllowed | ErrorKind::InvalidColonPlacement => wrong(
            "a `:` stands where no key can end",
            template.or(Some("a key needs a space behind its `:`; put a text with `: ` in it into quotes")),
        ),
        ErrorKind::ExpectedBlockMappingKey => {
            wrong("expected a key here", template.or(Some("indent all keys of a map alike")))
        }
        ErrorKind::ExpectedFlowMappingSeparator | ErrorKind::UnexpectedEofFlowMapping => {
            wrong("expected `,` or `}` here", template)
        }
        ErrorKind::ExpectedFlowSequenceSeparator | ErrorKind::UnexpectedEofFlowSequence => {
            wrong("expected `,` or `]` here", template)
        }
        ErrorKind::InvalidTagTerminator => {
            wrong("a YAML tag (`!`) begins here, which is not supported", Some("put the text into quotes"))
        }
        other => wrong(&format!("this is not YAML: {other}"), template),
    }
}

/// A tab in the indentation of the line of an error or of the one after it (where a plain text goes on).
fn indenting_tab(text: &str, at: usize) -> Option<usize> {
    let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let next_start = text[at..].find('\n').map(|newline| at + newline + 1);
    [Some(line_start), next_start].into_iter().flatten().find_map(|start| {
        let line = text[start..].split('\n').next().unwrap_or_default();
        let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
        line[..indent].find('\t').map(|tab| start + tab)
    })
}

fn line_at(text: &str, at: usize) -> &str {
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    text[start..].split('\n').next().unwrap_or_default()
}

/// Whether a line holds what looks like a template or a variable outside quotes.
fn looks_like_template(line: &str) -> bool {
    let signs = ["={", "!{", "/{", "}/", ": {{", ":%", "${"];
    let quotes_before = |at: usize| line[..at].chars().filter(|c| matches!(c, '"' | '\'')).count();
    signs.iter().any(|sign| line.match_indices(sign).any(|(at, _)| quotes_before(at).is_multiple_of(2)))
}
