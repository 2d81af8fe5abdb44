use super::*;

fn node(name: &str, build: &[&str], packages: &[(&str, &[&str], &[&str])]) -> Node {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    Node {
        name: name.to_owned(),
        build: owned(build),
        packages: packages
            .iter()
            .map(|(name, provides, runtime)| NodePackage {
                name: (*name).to_owned(),
                provides: owned(provides),
                runtime: owned(runtime),
            })
            .collect(),
    }
}

#[test]
fn order_follows_build_wants_and_what_they_need_at_run_time() {
    let graph = Graph::new(&[
        node("nginx", &["pcre2-dev", "make"], &[("nginx", &[], &[])]),
        node("pcre2", &["musl-dev~1.2"], &[("pcre2", &[], &[]), ("pcre2-dev", &[], &["pcre2=10", "zlib"])]),
        node("zlib", &["libc-headers"], &[("zlib", &[], &[])]),
        node("musl", &[], &[("musl", &[], &["!glibc"]), ("musl-dev", &["libc-headers=1"], &["musl"])]),
    ])
    .unwrap();
    assert_eq!(graph.order().unwrap(), [vec!["musl"], vec!["pcre2", "zlib"], vec!["nginx"]]);
    assert_eq!(graph.build_dependencies("nginx").into_iter().collect::<Vec<_>>(), ["musl", "pcre2", "zlib"]);
    assert_eq!(graph.dependents("zlib").into_iter().collect::<Vec<_>>(), ["nginx"]);
    assert_eq!(graph.external().keys().collect::<Vec<_>>(), ["make"]);
    assert!(graph.cycles().is_empty());
}

#[test]
fn a_cycle_is_told_as_a_chain_of_what_asks_for_what() {
    let graph = Graph::new(&[
        node("a", &["b-dev"], &[("a", &[], &[])]),
        node("b", &["c"], &[("b", &[], &[]), ("b-dev", &[], &[])]),
        node("c", &["tool"], &[("c", &[], &[])]),
        node("tool", &[], &[("tool", &[], &["a"])]),
        node("self", &["self"], &[("self", &[], &[])]),
        node("free", &[], &[("free", &[], &[])]),
    ])
    .unwrap();
    let message = graph.order().unwrap_err().to_string();
    assert_eq!(
        message,
        "packages need each other to be built: a -> b -> c -> a (`a` builds with `b-dev` of `b`; `b` builds with `c`; `c` builds with `tool`, which needs `a`)"
    );
    assert_eq!(graph.cycles().len(), 2);
    assert!(graph.cycles()[1].to_string().starts_with("packages need each other to be built: self -> self"));
}

#[test]
fn a_cycle_tells_each_word_that_leads_round_and_how_many_are_in_it() {
    let graph = Graph::new(&[
        node("a", &["shell"], &[("a", &["word"], &[])]),
        node("b", &[], &[("shell", &[], &["edit>=2"]), ("edit", &[], &["libterm=1"]), ("libterm", &[], &["term"])]),
        node("c", &["word"], &[("term", &[], &[])]),
        node("d", &["a", "term"], &[("d", &[], &[])]),
        node("e", &["d"], &[("shell-doc", &[], &[])]),
        node("f", &["c-tool"], &[("c-tool", &[], &["a"])]),
        node("g", &["a"], &[("pager", &[], &["term"])]),
    ])
    .unwrap();
    let cycles: Vec<String> = graph.cycles().iter().map(ToString::to_string).collect();
    assert_eq!(
        cycles,
        [
            "packages need each other to be built: a -> c -> a (`a` builds with `shell`, which needs `edit`, which needs `libterm`, which needs `term` of `c`; `c` builds with `word` of `a`)",
            "packages need each other to be built: f -> f (`f` builds with `c-tool` of `f`)",
        ]
    );
    let ring: Vec<Node> = (0..30)
        .map(|at| {
            let (name, next, second) = (format!("r{at:02}"), format!("r{:02}", (at + 1) % 30), "r00".to_owned());
            Node { build: vec![next, second], ..node(&name, &[], &[(&name, &[], &[])]) }
        })
        .collect();
    let cycle = Graph::new(&ring).unwrap().order().unwrap_err();
    assert_eq!((cycle.links.len(), cycle.members.len()), (1, 30));
    assert!(cycle.to_string().ends_with("30 definitions need each other: r00, r01, r02, r03, r04, r05, r06, r07, r08, r09, r10, r11, r12, r13, r14, r15, r16, r17, r18, r19 and 10 more"), "{cycle}");
}

#[test]
fn runtime_needs_alone_make_no_cycle() {
    let graph = Graph::new(&[
        node("a", &[], &[("a", &[], &["b"])]),
        node("b", &[], &[("b", &[], &["a"])]),
        node("c", &["a"], &[("c", &[], &[])]),
    ])
    .unwrap();
    assert_eq!(graph.order().unwrap(), [vec!["a", "b"], vec!["c"]]);
}

#[test]
fn one_name_has_one_maker() {
    let nodes = [node("a", &[], &[("x", &[], &[])]), node("b", &[], &[("x", &[], &[])])];
    assert_eq!(Graph::new(&nodes).unwrap_err().to_string(), "package `x` is made by both `a` and `b`; rename one");
}

#[test]
fn around_a_cycle_everything_has_its_place() {
    let graph = Graph::new(&[
        node("base", &[], &[("base", &[], &[])]),
        node("gcc", &["glibc", "base"], &[("gcc", &[], &[])]),
        node("glibc", &["gcc"], &[("glibc", &[], &[])]),
        node("self", &["self", "gcc"], &[("self", &[], &[])]),
        node("tool", &["self", "base"], &[("tool", &[], &[])]),
        node("wide", &["base"], &[("wide", &[], &[])]),
    ])
    .unwrap();
    assert!(graph.order().is_err());
    assert_eq!(graph.order_around_cycles(), [vec!["base"], vec!["gcc", "glibc", "wide"], vec!["self"], vec!["tool"]]);
}
