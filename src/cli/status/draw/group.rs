//! The group of a Kafka source as lines of a terminal: who owns what.

use super::Page;
use crate::cli::paint::{Ink, count, of, plain, short};
use crate::status::view::{KafkaView, MemberView, OwnsView};

/// Columns of a member's name and of its host at the most.
const CLIENT_COLUMNS_MAX: usize = 24;
const HOST_COLUMNS_MAX: usize = 16;

impl Page {
    pub(super) fn group(&mut self, kafka: &KafkaView) {
        let KafkaView { group, member, protocol, owned, paused, lag, owns, members_known, .. } = kafka;
        let members = if *members_known == 0 { String::new() } else { format!(", {}", of(*members_known, "member")) };
        let joining = if member.is_empty() { ", joining" } else { "" };
        self.field("group", &format!("{}, {} protocol{members}{joining}", plain(group), plain(protocol)));
        let owns = match owned {
            0 => "no partitions now".to_owned(),
            _ => self.rest(&format!("{}: {}", of(*owned, "partition"), words(owns, *owned)), 12),
        };
        self.field("owns", &owns);
        if *owned > 0 {
            let paused = if *paused == 0 { String::new() } else { format!(", {} paused", of(*paused, "partition")) };
            self.field("behind", &format!("{}{paused}", of(*lag, "offset")));
        }
        self.members(kafka);
    }

    fn members(&mut self, kafka: &KafkaView) {
        let shown = &kafka.members;
        if shown.is_empty() {
            return;
        }
        let widest = |of: fn(&MemberView) -> &str, most: usize| {
            shown.iter().map(|member| plain(of(member)).chars().count()).max().unwrap_or(0).clamp(4, most)
        };
        let (clients, hosts) = (widest(client, CLIENT_COLUMNS_MAX), widest(|of| &of.host, HOST_COLUMNS_MAX));
        self.heading(&format!("  {:clients$}  {:hosts$}  {:>6}  owns", "member", "host", "number"));
        for member in shown {
            let mark = if member.here { self.paint.ink(Ink::Good, "*") } else { " ".to_owned() };
            let (client, host) = (short(client(member), clients), short(&member.host, hosts));
            let number = count(member.owned);
            let head = format!("{client:clients$}  {host:hosts$}  {number:>6}");
            let owns = self.rest(&words(&member.owns, member.owned), clients + hosts + 16);
            self.line(format_args!("  {mark} {head}  {owns}"));
        }
        let more = kafka.members_known.saturating_sub(shown.len() as u64);
        if more > 0 {
            self.heading(&format!("and {} more", count(more)));
        }
    }
}

/// How a member calls itself, or else its id.
fn client(member: &MemberView) -> &str {
    if member.client.is_empty() { &member.id } else { &member.client }
}

/// Such as `orders 0-3,7; users 1`.
fn words(owns: &[OwnsView], all: u64) -> String {
    let said: u64 = owns.iter().map(|of| of.count).sum();
    let words = owns.iter().map(|of| format!("{} {}", of.topic, of.partitions));
    let more = (said < all).then(|| format!("{} more of other topics", count(all.saturating_sub(said))));
    words.chain(more).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::super::{COLUMNS_DEFAULT, Page};
    use crate::cli::paint::Paint;
    use crate::metrics::{GroupNow, MemberNow, PartitionNow};
    use crate::position::Shard;
    use crate::status::view::KafkaView;

    /// The group as it is drawn in eighty columns.
    fn drawn(partitions: i32, members: i32, member: &str) -> String {
        let each = partitions / members.max(1);
        let owned = (0..if members == 0 { partitions } else { each }).map(|partition| PartitionNow {
            topic: "orders".into(),
            partition,
            shard: Shard::new("k1").unwrap(),
            committed: Some(1000),
            read: 1500,
            end: Some(2000),
            paused: partition == 0,
        });
        let of = |n: i32| MemberNow {
            id: format!("hydrant-{n}-id"),
            client: format!("hydrant-{n}\u{1b}[2J"),
            host: format!("/10.0.0.{n}"),
            owns: (0..partitions).filter(|at| at / each.max(1) == n).map(|at| ("orders".into(), at)).collect(),
        };
        let group = "lake".to_owned();
        let members = (0..members).map(of).collect();
        let now = GroupNow { group, member: member.into(), protocol: "consumer", owned: owned.collect(), members };
        let mut page = Page { text: String::new(), paint: Paint::PLAIN, columns_max: COLUMNS_DEFAULT, now_ms: 0 };
        page.group(&KafkaView::of(&now));
        assert!(page.text.lines().all(|line| line.chars().count() <= 80), "{}", page.text);
        assert!(!page.text.contains('\u{1b}'), "{}", page.text);
        page.text
    }

    #[test]
    fn a_group_is_drawn_in_eighty_columns_however_large() {
        assert_eq!(drawn(0, 0, ""), "  group     lake, consumer protocol, joining\n  owns      no partitions now\n");
        let one = drawn(1, 0, "hydrant-0-id");
        assert!(
            one.ends_with("  owns      1 partition: orders 0\n  behind    1,000 offsets, 1 partition paused\n"),
            "{one}"
        );
        let twelve = drawn(12, 3, "hydrant-1-id");
        for words in [
            "  group     lake, consumer protocol, 3 members\n",
            "  owns      4 partitions: orders 0-3\n",
            "\n  * hydrant-1",
            "       4  orders 4-7\n",
            "\n    hydrant-2",
            "       4  orders 8-11\n",
        ] {
            assert!(twelve.contains(words), "{words}\n{twelve}");
        }
        let many = drawn(1000, 25, "hydrant-7-id");
        assert_eq!(many.matches("hydrant-").count(), 20);
        assert!(many.contains("\n  * hydrant-7") && many.ends_with("  and 5 more\n"), "{many}");
    }
}
