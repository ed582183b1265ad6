/** Header that names who stood in for the backend that should have answered; absent otherwise. */
export const SERVED_BY_HEADER = 'x-served-by';
