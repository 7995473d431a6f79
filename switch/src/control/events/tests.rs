use super::*;

fn aged(count: u32) -> EventKind {
    let switch = "main".parse().unwrap();
    EventKind::FdbAged { switch, count }
}

fn emit(events: &Events, kind: EventKind) {
    events.emit(kind, Description::default());
}

fn since(id: &str) -> EventSelect {
    EventSelect {
        since: Some(id.parse().unwrap()),
        ..EventSelect::default()
    }
}

#[tokio::test]
async fn what_was_lost_and_what_was_overrun_is_missed_in_one() {
    let events = Events::new();
    emit(&events, aged(0));
    let mut reader = events.subscribe();
    let sent = BACKLOG as u32 + 5;
    events.lose(7);
    (1..=sent).for_each(|n| emit(&events, aged(n)));
    let missed = reader.next().await.unwrap();
    assert_eq!(missed.kind, EventKind::Missed { count: 5 + 7 });
    assert_eq!(missed.seq, 1 + 7 + 5);
    for n in 6..=sent {
        let event = reader.next().await.unwrap();
        assert_eq!((event.kind, event.seq), (aged(n), u64::from(n) + 8));
    }
    assert_eq!(
        events.counts().find(|(kind, _)| *kind == "fdb-aged"),
        Some(("fdb-aged", u64::from(sent) + 1))
    );
    drop(events);
    assert_eq!(reader.next().await, None);
}

#[tokio::test]
async fn who_comes_again_goes_on_where_it_was() {
    let events = Events::new();
    let mut first = events.subscribe();
    (1..=3).for_each(|n| emit(&events, aged(n)));
    let read = first.next().await.unwrap();
    let mut again = events.subscribe_to(since(&read.id));
    emit(&events, aged(4));
    for n in 2..=4 {
        assert_eq!(again.next().await.unwrap().kind, aged(n));
    }
    // What is not kept any more is missed.
    (5..=BACKLOG as u32 + 10).for_each(|n| emit(&events, aged(n)));
    let mut late = events.subscribe_to(since(&read.id));
    assert_eq!(late.next().await.unwrap().kind, EventKind::Missed { count: 9 });
    assert_eq!(late.next().await.unwrap().kind, aged(11));
    // So is what nobody could be told, though nothing came behind it.
    let last = Events::new();
    emit(&last, aged(1));
    last.lose(3);
    let mut told = last.subscribe_to(since(&last.id(1)));
    assert_eq!(told.next().await.unwrap().kind, EventKind::Missed { count: 3 });
    emit(&last, aged(2));
    assert_eq!(told.next().await.unwrap().kind, aged(2));
}

#[tokio::test]
async fn what_is_kept_is_bounded_by_its_size_too() {
    let events = Events::new();
    let mut reader = events.subscribe();
    let long: Vec<_> = (0..BACKLOG_BYTES / 10_000).map(|n| format!("{n}")).collect();
    let set = || EventKind::SwitchSet {
        switch: "main".parse().unwrap(),
        changes: vec![SettingChange {
            key: "subnets".to_owned(),
            after: Some(long.clone().into()),
            ..SettingChange::default()
        }],
    };
    (0..BACKLOG).for_each(|_| emit(&events, set()));
    let (kept, bytes) = {
        let kept = lock(&events.kept);
        (kept.others.events.len(), kept.others.bytes)
    };
    assert!(
        (10..BACKLOG / 2).contains(&kept) && bytes <= BACKLOG_BYTES,
        "{kept} events of {bytes} bytes"
    );
    let count = (BACKLOG - kept) as u64;
    assert_eq!(reader.next().await.unwrap().kind, EventKind::Missed { count });
    assert_eq!(reader.next().await.unwrap().kind, set());
    // Of one that is larger than all together at least the reader of now has it.
    let huge = EventKind::PortSet {
        port: "red".parse().unwrap(),
        changes: vec![SettingChange {
            before: Some("x".repeat(2 * BACKLOG_BYTES).into()),
            ..SettingChange::default()
        }],
    };
    let mut reader = events.subscribe();
    emit(&events, huge.clone());
    assert_eq!(reader.next().await.unwrap().kind, huge);
    let small = EventKind::SwitchAdded {
        switch: "main".parse().unwrap(),
    };
    emit(&events, small);
    assert_eq!(lock(&events.kept).others.events.len(), 1);
}

/// Who waits for word of a loop does not miss it for the stations that the loop shows everywhere.
#[tokio::test]
async fn stations_drive_nothing_else_out() {
    let events = Events::new();
    let added = |name: &str| EventKind::SwitchAdded {
        switch: name.parse().unwrap(),
    };
    let many = || (0..2 * BACKLOG as u32).for_each(|n| emit(&events, aged(n)));
    let wanted = EventSelect {
        kind: Some("switch-added".parse().unwrap()),
        ..EventSelect::default()
    };
    let (mut one, mut all) = (events.subscribe_to(wanted.clone()), events.subscribe());
    many();
    emit(&events, added("a"));
    many();
    emit(&events, added("b"));
    events.lose(5);
    assert_eq!(one.next().await.unwrap().kind, added("a"));
    let last = one.next().await.unwrap();
    assert_eq!(last.kind, added("b"));
    // Who wants all is told of what it missed around them.
    let each = [
        EventKind::Missed { count: 2048 },
        added("a"),
        EventKind::Missed { count: 1024 },
    ];
    for kind in each {
        assert_eq!(all.next().await.unwrap().kind, kind);
    }
    // Who comes again has missed nothing by stations alone, and is told where there is more.
    let since = |id: &str| EventSelect {
        since: Some(id.parse().unwrap()),
        ..wanted.clone()
    };
    let mut again = events.subscribe_to(since(&last.id));
    emit(&events, added("c"));
    assert_eq!(again.next().await.unwrap().kind, added("c"));
    (0..BACKLOG).for_each(|_| emit(&events, added("d")));
    let mut late = events.subscribe_to(since(&last.id));
    let missed = late.next().await.unwrap().kind;
    assert!(matches!(missed, EventKind::Missed { .. }), "{missed:?}");
    assert_eq!(late.next().await.unwrap().kind, added("d"));
}

#[tokio::test]
async fn who_knows_another_run_is_told_so() {
    let events = Events::new();
    (1..=2).for_each(|n| emit(&events, aged(n)));
    for id in ["0-1".to_owned(), events.id(9)] {
        let mut reader = events.subscribe_to(since(&id));
        assert_eq!(
            reader.next().await.unwrap().kind,
            EventKind::Missed { count: 0 },
            "{id}"
        );
        assert_eq!(reader.next().await.unwrap().kind, aged(1));
        assert_eq!(reader.next().await.unwrap().kind, aged(2));
    }
}

#[tokio::test]
async fn only_what_is_wanted_is_read() {
    let events = Events::new();
    let wanted = EventSelect {
        port: Some("red".parse().unwrap()),
        ..EventSelect::default()
    };
    let mut reader = events.subscribe_to(wanted);
    let set = |port: &str| EventKind::PortSet {
        port: port.parse().unwrap(),
        changes: Vec::new(),
    };
    emit(&events, aged(1));
    emit(&events, set("blue"));
    emit(&events, set("red"));
    // A gap is told of whoever reads.
    events.lose(2);
    emit(&events, aged(2));
    assert_eq!(reader.next().await.unwrap().kind, set("red"));
    assert_eq!(reader.next().await.unwrap().kind, EventKind::Missed { count: 2 });
    drop(events);
    assert_eq!(reader.next().await, None);
}
