// The configurations that come with the program, the default of its kind first: configs/<kind>/<name>.yaml. Those of a
// set stand in its order.
shipped! {
    Env: "ant", "hopper", "cheetah", "cartpole", "humanoid", "anymal",
        "dflex-ant-stand", "dflex-ant-walk-1", "dflex-ant-walk-3", "dflex-ant-backwards", "dflex-ant-left", "dflex-ant-turn",
        "dflex-hopper-stand", "dflex-hopper-backwards", "dflex-cheetah-backwards", "dflex-cheetah-jump",
        "dflex-cartpole-balance", "dflex-cartpole-sparse", "dflex-humanoid-stand", "dflex-humanoid-walk",
        "dflex-anymal-velocity", "dflex-anymal-backwards",
        "mt_dflex",
        "mt30", "walker-stand", "walker-walk", "walker-run", "cheetah-run", "reacher-easy",
        "reacher-hard", "acrobot-swingup", "pendulum-swingup", "cartpole-balance", "cartpole-balance-sparse",
        "cartpole-swingup", "cartpole-swingup-sparse", "cup-catch", "finger-spin", "finger-turn-easy",
        "finger-turn-hard", "fish-swim", "hopper-stand", "hopper-hop", "walker-walk-backwards",
        "walker-run-backwards", "cheetah-run-backwards", "cheetah-run-front", "cheetah-run-back", "cheetah-jump",
        "hopper-hop-backwards", "reacher-three-easy", "reacher-three-hard", "cup-spin", "pendulum-spin";
    Alg: "pwm_small", "pwm_5M", "pwm_48M",
        "pwm_5M_flow_v1", "pwm_5M_flow_v2", "pwm_5M_flow_v3",
        "pwm_48M_flow_v0", "pwm_48M_flow_v1", "pwm_48M_flow_v2", "pwm_48M_flow_v3",
        "pwm_48M_flow_v3_heun", "pwm_48M_flow_v2_rk4",
        "pwm_small_mt", "pwm_5M_mt_baseline", "pwm_5M_mt_flow_v1", "pwm_5M_mt_flow_v2", "pwm_5M_mt_flow_v3",
        "pwm_48M_mt_baseline", "pwm_48M_mt_flow_v1", "pwm_48M_mt_flow_v2", "pwm_48M_mt_flow_v3",
        "pwm_48M_mt_flowwm", "pwm_48M_mt_flowpolicy", "pwm_48M_mt_fullflow",
        "shac_small", "shac";
}
