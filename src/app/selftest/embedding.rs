//! Rows by number.

use super::lab::{Case, case};
use crate::ops::embedding::{cap_rows, gather_rows, mask, repeat_ids, task_ids};

pub(super) fn embedding_cases(list: &mut Vec<Case>) {
    for (tasks, each, width, times) in [(1, 1, 1, 1), (3, 5, 7, 4), (30, 9, 200, 3), (5, 70, 64, 2)] {
        list.push(case(format!("embedding {tasks}x{width}, rows {each}, {times} times"), move |l| {
            let table = l.leaf(&[tasks, width]);
            cap_rows(&mut l.p, table, 0.5);
            let ids = task_ids(&mut l.p, tasks * each, 0, tasks);
            let rows = gather_rows(&mut l.p, table, ids);
            l.follow(rows);
            let all = repeat_ids(&mut l.p, ids, times);
            let rows = gather_rows(&mut l.p, table, all);
            l.follow(rows);
            let keep = l.flags(&[tasks, width], 0.3);
            let keep = gather_rows(&mut l.p, keep, ids);
            let x = l.leaf(&[tasks * each, width]);
            let y = mask(&mut l.p, x, keep, None);
            l.follow(y);
            let y = mask(&mut l.p, y, keep, None);
            l.follow(y);
        }));
    }
}
