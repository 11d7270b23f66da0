#!/usr/bin/env python3
"""A search for settings with Optuna: python optuna_search.py [--env hopper] [--trials 20] [--epochs 200]

    pip install optuna

Every trial is a run of its own, in a folder that stays; hopeless ones are stopped at an evaluation, with everything saved.
"""

import argparse

import optuna

import pwm_rl


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--env", default="hopper")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--out", default="runs/optuna")
    args = parser.parse_args()

    def objective(trial: optuna.Trial) -> float:
        settings = {
            "actor_lr": trial.suggest_float("actor_lr", 2e-4, 2e-2, log=True),
            "critic_lr": trial.suggest_float("critic_lr", 2e-4, 2e-2, log=True),
            "horizon": trial.suggest_int("horizon", 8, 64, log=True),
        }
        best = float("-inf")

        def on_row(row: dict) -> None:
            nonlocal best
            if "eval/return_mean" in row:
                best = max(best, row["eval/return_mean"])
                trial.report(best, row["epoch"])
                if trial.should_prune():
                    raise optuna.TrialPruned

        pwm_rl.train(
            "alg=shac_small",
            env=args.env,
            max_epochs=args.epochs,
            eval_every=max(1, args.epochs // 10),
            threads=1,
            run_dir=f"{args.out}/{trial.number}",
            on_row=on_row,
            **settings,
        )
        return best

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=args.trials)
    print(f"best of {len(study.trials)} trials: {study.best_value:.1f} with {study.best_params}")
    print(f"its run: {args.out}/{study.best_trial.number}")


if __name__ == "__main__":
    main()
