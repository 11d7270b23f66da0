// The physics of an environment step as the kernels of a task see it; two layouts provide it. LANES neighbouring
// threads of a warp are an environment, and `lane` is a thread's number among them; all threads of a warp call these
// functions together.
//
// | constants | |
// |---|---|
// | LANES | threads of an environment: 1 to 32, a power of two |
// | NQ, NQD | coordinates and velocities (dofs), in the order of src/sim/articulation.rs |
// | FREE_ROOT | whether the first body is free: coordinates 0-6, dofs 0-5 |
// | SLOTS_Q, SLOTS_QD | coordinates and dofs that a thread owns, at most |
// | EVEN | whether every thread owns as many as that |
//
// The first body's coordinates, if it is free, are known to every thread (Root). Every other coordinate and dof is
// owned by one thread: `coordinate(lane, i)` and `dof(lane, i)` are the numbers, in rows of q and qd, of its slots,
// negative if slot i is empty, which holds zeros. `owned(k)` says whether a slot with the number k is there.
//
// | types | |
// |---|---|
// | Root | p, r, omega, v: position (m), quaternion, twist of the free root in world axes about the origin |
// | State | a Root, and q[SLOTS_Q], qd[SLOTS_QD] |
// | StateBar | s: cotangents of a State, the root's known to every thread; actuation[SLOTS_QD], which is added to |
// | StepMemory, AdjointMemory<THREADS> | shared memory of a block; `begin` prepares it and ends with a barrier |
// | Kept | what step_keeping remembers for step_adjoint |
//
// | functions | |
// |---|---|
// | load_root(q, qd, root), store_root | the free root of one row |
// | load_state(q, qd, lane), store_state(s, q, qd, lane) | one row |
// | step(memory, lane, s, actuation) | advances s by an environment step under forces on the owned dofs (N m, N) |
// | step_keeping(memory, lane, s, actuation, kept) | the same, for the adjoint |
// | step_adjoint(memory, lane, actuation, kept, before, next, bar) | `bar`: from the state after the step to that before |
// | env_sum(x), env_max(x) | over the threads of an environment, to all of them |
#pragma once
#include "robot.cuh"
#if TREE
#include "sim/tree_step.cuh"
#else
#include "sim/chains_step.cuh"
#endif

DEVICE constexpr bool owned(int number) { return EVEN || number >= 0; }
