//! An order of jobs in which each comes after those it depends on, or the circle that makes one impossible.

use std::collections::VecDeque;

/// `before[i]` are the nodes that come before node `i`; each is below `before.len()`.
///
/// # Errors
/// Circles, one of each knot of them: each node of a circle comes after the next, and the last after the first.
pub(crate) fn order(before: &[Vec<usize>]) -> Result<Vec<usize>, Vec<Vec<usize>>> {
    let mut after: Vec<Vec<usize>> = vec![Vec::new(); before.len()];
    let mut waits_for: Vec<usize> = before.iter().map(Vec::len).collect();
    for (node, before) in before.iter().enumerate() {
        before.iter().for_each(|earlier| after[*earlier].push(node));
    }
    let mut ready: VecDeque<usize> = (0..before.len()).filter(|node| waits_for[*node] == 0).collect();
    let mut done = vec![false; before.len()];
    let mut order = Vec::with_capacity(before.len());
    let mut circles = Vec::new();
    loop {
        while let Some(node) = ready.pop_front() {
            if std::mem::replace(&mut done[node], true) {
                continue;
            }
            order.push(node);
            for later in &after[node] {
                waits_for[*later] -= 1;
                if waits_for[*later] == 0 {
                    ready.push_back(*later);
                }
            }
        }
        let Some(stuck) = done.iter().position(|done| !done) else { break };
        let circle = circle(before, &done, stuck);
        // Taken out, so that the next knot shows.
        ready.extend(&circle);
        circles.push(circle);
    }
    if circles.is_empty() { Ok(order) } else { Err(circles) }
}

/// Follows what is not done from `node`, which never ends, until a node comes again.
fn circle(before: &[Vec<usize>], done: &[bool], mut node: usize) -> Vec<usize> {
    let mut way = Vec::new();
    let mut place = vec![None; before.len()];
    loop {
        if let Some(begin) = place[node] {
            return way.split_off(begin);
        }
        place[node] = Some(way.len());
        way.push(node);
        match before[node].iter().find(|earlier| !done[**earlier]) {
            Some(earlier) => node = *earlier,
            None => return way,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_comes_after_those_before_it() {
        assert_eq!(order(&[vec![1, 2], vec![2], vec![], vec![0, 0]]), Ok(vec![2, 1, 0, 3]));
        assert_eq!(order(&[]), Ok(vec![]));
    }

    #[test]
    fn circles_are_named_one_of_each_knot() {
        assert_eq!(order(&[vec![0]]), Err(vec![vec![0]]));
        assert_eq!(order(&[vec![1], vec![2], vec![0], vec![0]]), Err(vec![vec![0, 1, 2]]));
        assert_eq!(order(&[vec![1], vec![0], vec![3], vec![2, 0]]), Err(vec![vec![0, 1], vec![2, 3]]));
    }
}
