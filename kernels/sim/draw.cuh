// What `robot.cuh` lists of a task's starts: rows of its noise. The meaning of a row is that of src/env/reset.rs;
// kernels/sim/episodes.cu computes it.
#pragma once

enum DrawKind { POSITION_NOISE, ROTATION_NOISE, COORDINATE_NOISE, VELOCITY_NOISE };

// The numbers DRAWN[first], ... DRAWN[first + count - 1] of the state; of a rotation the first is that of its
// quaternion.
struct Draw {
    int kind, first, count;
    double width;
};
