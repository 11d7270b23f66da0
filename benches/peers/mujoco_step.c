/* Steps a second of MuJoCo's own engine: environments one after the other on one thread, controls drawn anew every few
   steps. Prints one number.

   mujoco_step FILE.xml ENVIRONMENTS SUBSTEPS SECONDS

   cc -O3 -I INCLUDE mujoco_step.c libmujoco.so -lm: benches/mujoco_speed.py does it. */
#include <mujoco/mujoco.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

static unsigned long long state = 1;
static double uniform(void) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (double)(state >> 11) / 9007199254740992.0;
}

int main(int argc, char** argv) {
    if (argc != 5) return 2;
    char error[1000] = "";
    mjModel* model = mj_loadXML(argv[1], NULL, error, sizeof error);
    if (!model) return fprintf(stderr, "%s\n", error), 1;
    int count = atoi(argv[2]), substeps = atoi(argv[3]);
    double seconds = atof(argv[4]);
    mjData** data = malloc(count * sizeof *data);
    for (int e = 0; e < count; e++) {
        data[e] = mj_makeData(model);
        for (int i = 0; i < model->nv; i++) data[e]->qvel[i] = 0.1 * (2 * uniform() - 1);
    }
    /* Half of the time warms up. */
    double begin = now(), from = 0;
    long long steps = 0;
    for (;;) {
        for (int e = 0; e < count; e++) {
            for (int i = 0; i < model->nu; i++) data[e]->ctrl[i] = 2 * uniform() - 1;
            for (int s = 0; s < substeps; s++) mj_step(model, data[e]);
        }
        double t = now() - begin;
        if (from == 0 && t > seconds / 2) from = t, steps = 0;
        else steps += (long long)count * substeps;
        if (t > seconds) return printf("%.0f\n", steps / (t - from)), 0;
    }
}
