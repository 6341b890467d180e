use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn names() -> Vec<String> {
    ["webhook.tessera-system.svc", "10.0.0.1"].map(ToOwned::to_owned).to_vec()
}

fn read(data: &Data, now: SystemTime) -> Stored {
    Stored::read(data, &names(), now)
}

fn due(data: &Data, now: SystemTime) -> Action {
    what_to_do(&read(data, now), now)
}

/// What the Secret holds once a look at this time is over, and what was done.
fn settled(mut data: Data, now: SystemTime) -> (Data, Vec<Action>) {
    let mut actions = Vec::new();
    loop {
        let stored = read(&data, now);
        let action = what_to_do(&stored, now);
        if matches!(action, Action::Keep { .. }) {
            return (data, actions);
        }
        assert!(actions.len() < 3, "{actions:?}");
        data = stored.after(action, &data, &names(), now).unwrap();
        actions.push(action);
    }
}

fn begun() -> Data {
    settled(Data::new(), start()).0
}

/// The same without a part, or with another in its place.
fn with(mut data: Data, key: &str, value: Option<&[u8]>) -> Data {
    match value {
        Some(value) => data.insert(key.to_owned(), ByteString(value.to_vec())),
        None => data.remove(key),
    };
    data
}

/// Whether somebody who trusts this bundle takes what another Secret serves.
fn trusts(bundle: &Data, served: &Data, now: SystemTime) -> bool {
    let leaf =
        with(with(served.clone(), AUTHORITIES, bundle.get(AUTHORITIES).map(|it| &it.0[..])), AUTHORITY_KEY, None);
    read(&leaf, now).leaf.is_some()
}

#[test]
fn a_secret_that_is_empty_gets_a_ca_and_a_leaf_which_last() {
    let (data, actions) = settled(Data::new(), start());
    assert_eq!(actions, [Action::Begin]);
    assert_eq!(data.keys().collect::<Vec<_>>(), [AUTHORITIES, AUTHORITY_KEY, LEAF, LEAF_KEY]);
    let stored = read(&data, start());
    let (served, expires) = stored.served().unwrap();
    assert_eq!((served.cert.len(), expires), (1, start() + LEAF_LIFE));
    assert_eq!(stored.bundle().as_bytes(), data[AUTHORITIES].0);
    let Action::Keep { until } = due(&data, start()) else { panic!("something is due at once") };
    // Two thirds of the leaf's life, and it was valid a day before it was made.
    assert_eq!(until, start() - SKEW + (LEAF_LIFE + SKEW) * 2 / 3);
    for (at, what) in [
        (start() - SKEW, "a clock that goes slow"),
        (start() + HOUR, "an hour later"),
        (until - Duration::from_secs(1), "until it is due"),
    ] {
        assert_eq!(due(&data, at), Action::Keep { until }, "{what}");
    }
    assert_eq!(due(&data, until), Action::IssueLeaf);
}

#[test]
fn whatever_part_is_lost_or_garbled_is_made_anew_and_no_more() {
    let data = begun();
    let other = begun();
    let now = start() + HOUR;
    let of_other = |key: &str| Some(&other[key].0[..]);
    let cases = [
        ("nothing", Data::new(), &[Action::Begin][..]),
        ("all garbled", data.keys().fold(data.clone(), |data, key| with(data, key, Some(b"\xff\0"))), &[Action::Begin]),
        ("no CA", with(data.clone(), AUTHORITIES, None), &[Action::Begin]),
        (
            "a garbled CA",
            with(data.clone(), AUTHORITIES, Some(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")),
            &[Action::Begin],
        ),
        ("another CA", with(data.clone(), AUTHORITIES, of_other(AUTHORITIES)), &[Action::Begin]),
        ("a leaf as CA", with(data.clone(), AUTHORITIES, Some(&data[LEAF].0)), &[Action::Begin]),
        ("no key of the CA", with(data.clone(), AUTHORITY_KEY, None), &[Action::AddAuthority]),
        ("a garbled key of the CA", with(data.clone(), AUTHORITY_KEY, Some(b"garbled")), &[Action::AddAuthority]),
        ("another CA's key", with(data.clone(), AUTHORITY_KEY, of_other(AUTHORITY_KEY)), &[Action::AddAuthority]),
        ("neither key", with(with(data.clone(), AUTHORITY_KEY, None), LEAF_KEY, None), &[Action::Begin]),
        ("no leaf", with(data.clone(), LEAF, None), &[Action::IssueLeaf]),
        ("a garbled leaf", with(data.clone(), LEAF, Some(b"garbled")), &[Action::IssueLeaf]),
        ("another CA's leaf", with(data.clone(), LEAF, of_other(LEAF)), &[Action::IssueLeaf]),
        ("no key of the leaf", with(data.clone(), LEAF_KEY, None), &[Action::IssueLeaf]),
        ("another leaf's key", with(data.clone(), LEAF_KEY, of_other(LEAF_KEY)), &[Action::IssueLeaf]),
        (
            "the CA as leaf",
            with(with(data.clone(), LEAF, Some(&data[AUTHORITIES].0)), LEAF_KEY, Some(&data[AUTHORITY_KEY].0)),
            &[Action::IssueLeaf],
        ),
        ("something besides", with(data.clone(), "note", Some(b"mine")), &[]),
        (
            "something behind the CA",
            with(data.clone(), AUTHORITIES, Some(&[&data[AUTHORITIES].0[..], b"garbage"].concat())),
            &[],
        ),
    ];
    for (what, damaged, wanted) in cases {
        let (mended, actions) = settled(damaged.clone(), now);
        assert_eq!(actions, wanted, "{what}");
        assert_eq!(mended.get("note"), damaged.get("note"), "{what}");
        let adds = wanted == [Action::AddAuthority];
        assert_eq!(
            trusts(&mended, &data, now),
            wanted != [Action::Begin],
            "{what}: who serves the old leaf is trusted"
        );
        assert_eq!(mended[LEAF] == data[LEAF], wanted.is_empty() || adds, "{what}");
    }
}

#[test]
fn names_that_change_are_those_of_a_new_leaf() {
    let data = begun();
    let other = vec!["other.tessera-system.svc".to_owned()];
    let stored = Stored::read(&data, &other, start());
    assert_eq!(what_to_do(&stored, start()), Action::IssueLeaf);
    let data = stored.after(Action::IssueLeaf, &data, &other, start()).unwrap();
    assert!(matches!(what_to_do(&Stored::read(&data, &other, start()), start()), Action::Keep { .. }));
}

/// A replica that looks every minute for three years, and another one that is a minute behind: neither ever serves what the
/// other's API servers do not trust.
#[test]
fn years_of_rotation_go_unnoticed() {
    let mut data = begun();
    let (mut now, mut leaves, mut authorities) = (start(), 0, 0);
    while now < start() + AUTHORITY_LIFE * 3 {
        let before = data.clone();
        let actions;
        (data, actions) = settled(data, now);
        for action in &actions {
            match action {
                Action::AddAuthority => authorities += 1,
                Action::IssueLeaf => leaves += 1,
                action => panic!("{action:?} at {now:?}"),
            }
        }
        assert!(actions.len() < 2, "one at a time: {actions:?}");
        assert!(trusts(&before, &data, now) && trusts(&data, &before, now), "after {actions:?}");
        assert!(read(&data, now).authorities.len() <= 2);
        let Action::Keep { until } = due(&data, now) else { panic!("settled") };
        // At least a minute, so that this ends.
        now = until.max(now + Duration::from_secs(60));
    }
    assert!((4..=5).contains(&authorities) && leaves > 40, "{authorities} CAs, {leaves} leaves");
}

#[test]
fn a_new_ca_is_served_only_once_it_was_known_for_a_while() {
    let due_at = start() - SKEW + (AUTHORITY_LIFE + SKEW) * 2 / 3;
    let old = settled(begun(), due_at - HOUR).0;
    let (data, actions) = settled(old.clone(), due_at);
    assert_eq!(actions, [Action::AddAuthority]);
    assert_eq!(data[LEAF], old[LEAF]);
    assert!(data[AUTHORITIES].0.ends_with(&old[AUTHORITIES].0), "the new one comes first");
    assert_eq!(due(&data, due_at + OVERLAP / 2), Action::Keep { until: due_at + OVERLAP });
    let (after, actions) = settled(data.clone(), due_at + OVERLAP);
    assert_eq!(actions, [Action::IssueLeaf]);
    assert_eq!(after[AUTHORITIES], data[AUTHORITIES]);
    assert!(!trusts(&old, &after, due_at + OVERLAP), "it is of the new one");
}

#[test]
fn a_clock_that_jumps_is_followed_and_comes_back() {
    let years = |number: u32| AUTHORITY_LIFE * number;
    let week = DAY * 7;
    for (what, jump, there, back) in [
        ("a leaf's life ahead", start() + LEAF_LIFE + week, &[Action::IssueLeaf][..], &[Action::IssueLeaf][..]),
        ("years ahead", start() + years(9), &[Action::Begin], &[Action::Begin]),
        ("years behind", start() - years(9), &[Action::Begin], &[Action::Begin]),
        ("to the epoch", UNIX_EPOCH, &[Action::Begin], &[Action::Begin]),
    ] {
        let (jumped, actions) = settled(begun(), jump);
        assert_eq!(actions, there, "{what}");
        let (returned, actions) = settled(jumped, start());
        assert_eq!(actions, back, "{what}, and back");
        assert_eq!(settled(returned, start()).1, []);
    }
}

#[test]
fn what_was_not_renewed_for_too_long_is_begun_anew() {
    let data = begun();
    for (what, at, wanted) in [
        ("the leaf has expired", LEAF_LIFE + HOUR, &[Action::IssueLeaf][..]),
        // A leaf of the old CA, to be served while the next one is made known.
        ("and the CA is due", AUTHORITY_LIFE - DAY, &[Action::IssueLeaf, Action::AddAuthority]),
        ("both have expired", AUTHORITY_LIFE + HOUR, &[Action::Begin]),
    ] {
        let now = start() + at;
        let (renewed, actions) = settled(data.clone(), now);
        assert_eq!(actions, wanted, "{what}");
        let stored = read(&renewed, now);
        let leaf = stored.leaf.unwrap();
        assert_eq!(leaf.life.until, stored.authorities[leaf.signer].life.until.min(now + LEAF_LIFE), "{what}");
    }
}
