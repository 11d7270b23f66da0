//! Layers and matrix products.

use super::lab::{Case, Lab, case};
use crate::config::Precision;
use crate::device::philox::{Philox, Stream};
use crate::ops::linear::{Epilogue, LayerVals, linear, transpose};

pub(super) fn layer(l: &mut Lab, ensemble: usize, n: usize, k: usize, norm: bool) -> LayerVals {
    layer_at(l, 0, [ensemble, n, k], norm)
}

/// A layer of which what follows the weight begins `offset` numbers behind the beginning of a variable.
fn layer_at(l: &mut Lab, offset: usize, [ensemble, n, k]: [usize; 3], norm: bool) -> LayerVals {
    let shape = |s: &[usize]| if ensemble > 1 { [&[ensemble], s].concat() } else { s.to_vec() };
    let weight = l.leaf(&shape(&[n, k]));
    let bias = l.leaf_at(offset, &shape(&[n]));
    let norm = norm.then(|| (l.leaf_at(offset, &shape(&[n])), l.leaf_at(offset, &shape(&[n]))));
    let transposed = transpose(&mut l.p, weight);
    LayerVals { weight, transposed, bias, norm }
}

pub(super) fn linear_cases(list: &mut Vec<Case>) {
    let epilogues = [Epilogue::Bias, Epilogue::NormMish, Epilogue::MishNorm, Epilogue::NormSimplex { group: 8 }];
    // Rows, outputs, input parts: around the edges of the tiles.
    let sizes: [(usize, usize, &[usize]); 9] = [
        (1, 8, &[1]),
        (7, 40, &[37]),
        (8, 256, &[24, 8]),
        (9, 264, &[13, 8, 1]),
        (17, 32, &[512]),
        (33, 24, &[513, 7]),
        (24, 520, &[65]),
        (12, 40, &[5, 3, 9, 2, 1]),
        (19, 264, &[70, 8, 3, 24]),
    ];
    for epilogue in epilogues {
        for (m, n, parts) in sizes {
            list.push(case(format!("linear {epilogue:?} {m}x{n}x{parts:?}"), move |l| {
                let w = layer(l, 1, n, parts.iter().sum(), epilogue.has_norm());
                let xs: Vec<_> = parts.iter().map(|&k| l.leaf(&[m, k])).collect();
                let y = linear(&mut l.p, &xs, &w, epilogue, true, None);
                l.follow(y);
                // The same weights again: gradients add up.
                let more: Vec<_> = parts.iter().map(|&k| l.leaf(&[m, k])).collect();
                let y = linear(&mut l.p, &more, &w, epilogue, true, None);
                l.follow(y);
                let unsaved = linear(&mut l.p, &xs, &w, epilogue, false, None);
                l.keep(unsaved);
            }));
        }
    }
    for epilogue in [Epilogue::NormSimplex { group: 5 }, Epilogue::NormSimplex { group: 4 }] {
        list.push(case(format!("linear {epilogue:?}"), move |l| {
            let w = layer(l, 1, 40, 19, true);
            let x = l.leaf(&[13, 19]);
            let y = linear(&mut l.p, &[x], &w, epilogue, true, None);
            l.follow(y);
        }));
    }
    for (shared, epilogue, (e, m, n, k)) in [
        (true, Epilogue::MishNorm, (3, 17, 40, 21)),
        (false, Epilogue::MishNorm, (2, 9, 33, 40)),
        (true, Epilogue::Bias, (3, 33, 1, 70)),
        (false, Epilogue::Bias, (3, 8, 1, 65)),
        (true, Epilogue::NormMish, (2, 70, 257, 5)),
        (true, Epilogue::MishNorm, (3, 2900, 40, 68)),
        (false, Epilogue::MishNorm, (3, 2817, 36, 72)),
    ] {
        list.push(case(format!("ensemble {epilogue:?} shared {shared} {e}x{m}x{n}x{k}"), move |l| {
            let w = layer(l, e, n, k, epilogue.has_norm());
            let x = l.leaf(&if shared { vec![m, k] } else { vec![e, m, k] });
            let y = linear(&mut l.p, &[x], &w, epilogue, true, None);
            l.follow(y);
        }));
    }
}

/// Layers whose rows the blocks of a cluster share, in every width of a tile: four, eight, three, five, one and two
/// blocks a row. The first four have weights that bf16 keeps rounded; the others form clusters in tf32 alone, also
/// without `h` being kept. Other parameters lie at odd places, as they may behind a layer of odd sizes.
pub(super) fn cluster_cases(list: &mut Vec<Case>) {
    for (epilogue, [e, m, n, k]) in [
        (Epilogue::NormMish, [1, 3100, 512, 264]),
        (Epilogue::NormSimplex { group: 8 }, [1, 1540, 1792, 264]),
        (Epilogue::NormSimplex { group: 8 }, [1, 4100, 768, 256]),
        (Epilogue::MishNorm, [1, 2500, 640, 256]),
        (Epilogue::MishNorm, [4, 3080, 256, 68]),
        (Epilogue::NormMish, [2, 3090, 512, 72]),
    ] {
        let large = k >= 256;
        let precision = if large { Precision::Bf16 } else { Precision::Tf32 };
        list.push(case(format!("cluster {precision} {epilogue:?} {e}x{m}x{n}x{k}"), move |l| {
            let w = layer_at(l, 1, [e, n, k], true);
            let x = l.leaf(&[m, k]);
            let y = linear(&mut l.p, &[x], &w, epilogue, true, None);
            l.follow(y);
            if !large {
                let unsaved = linear(&mut l.p, &[x], &w, epilogue, false, None);
                l.keep(unsaved);
            }
        }));
    }
}

/// Layers of random sizes, each a step from the edge of a tile, one or a prime; sizes that fill a GPU with the larger
/// tiles, on all units; sums over so many rows that blocks share them.
pub(super) fn product_cases(list: &mut Vec<Case>) {
    const EDGES: [usize; 17] = [1, 2, 7, 31, 32, 33, 63, 64, 65, 97, 127, 128, 129, 191, 255, 256, 257];
    let rng = Philox::new(7, Stream::Test);
    let mut drawn = 0;
    let mut pick = || {
        drawn += 1;
        EDGES[(rng.uniform(drawn, 0) * EDGES.len() as f64) as usize]
    };
    let mut sizes: Vec<[usize; 4]> = (0..16).map(|_| [pick(), pick(), pick(), pick()]).collect();
    sizes.extend([[1281, 1153, 66, 36], [640, 772, 65, 3], [1031, 96, 68, 4], [2051, 33, 129, 1]]);
    // For `product_tma`: lines of multiples of 16 bytes, more of them than its ring holds; weights that are kept
    // rounded; tiles of 256 columns.
    sizes.extend([[8201, 40, 260, 36], [2700, 512, 264, 160], [17_001, 300, 60, 8]]);
    for [m, n, k0, k1] in sizes {
        list.push(case(format!("product {m}x{n}x[{k0}, {k1}]"), move |l| {
            let w = layer(l, 1, n, k0 + k1, false);
            let xs = [l.leaf(&[m, k0]), l.leaf(&[m, k1])];
            let y = linear(&mut l.p, &xs, &w, Epilogue::Bias, true, None);
            l.follow(y);
        }));
    }
}
