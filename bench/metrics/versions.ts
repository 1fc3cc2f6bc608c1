/** The trackio that writes, that receives and that we compare with. */
export const trackioVersion = "0.43.0";
