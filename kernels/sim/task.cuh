// What `robot.cuh` lists of a task: rows of its features, reward terms and start noise. The meaning of a row is that of
// src/env/feature.rs, term.rs and reset.rs; kernels/sim/features.cuh, terms.cuh and episodes.cu compute it.
#pragma once

enum FeatureKind {
    HEIGHT, ROOT_ROTATION, LINEAR_VELOCITY, ANGULAR_VELOCITY, COORDINATES, VELOCITIES, UP, HEADING, SINE, COSINE, ACTIONS
};

// Entries at, at + 1, ... at + width - 1 of the observation. `first` is the first coordinate or dof; `scale` the factor
// on velocities, or whether actions are shown; (x, z) the place of a heading.
struct Feature {
    int kind, at, width, first;
    float scale, x, z;
};

enum TermKind {
    LINEAR, CLIPPED_QUADRATIC, ANGLE, SQUARED, WRAPPED_ANGLE, ACTION_COST, LONG_TAIL, QUADRATIC_FALL, LINEAR_FALL
};

// Of entry `of` less `offset`, cut to [low, high]; of the angle whose sine is `of` and whose cosine is `cosine`. A
// tolerance, of which there are three kinds, is 1 in [low, high] and never below `weight`; `below` is one over its
// margin or 0, `above` how steeply it falls. `times_next`: it multiplies the next term instead of being added.
struct Term {
    int kind, of, cosine;
    float weight, offset, low, high, below, above;
    int times_next;
};

enum DrawKind { POSITION_NOISE, ROTATION_NOISE, COORDINATE_NOISE, VELOCITY_NOISE };

// The numbers DRAWN[first], ... DRAWN[first + count - 1] of the state; of a rotation the first is that of its
// quaternion.
struct Draw {
    int kind, first, count;
    double width;
};
